"""The comparison of loaders: what it compares, not how fast it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.benchmark import PlainDataset, measure_loader, speed_table
from segzoo.data.sampling import SampleKey
from segzoo.data.transforms import train_transform


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(4):
            mask = np.random.default_rng(index).integers(0, 2, (40, 50), dtype=np.uint8)
            Image.fromarray(np.repeat(mask[..., None] * np.uint8(200), 3, 2)).save(
                tmp_path / split / f"images/{index}.jpg"
            )
            Image.fromarray(mask).save(tmp_path / split / f"masks/{index}.png")
    return DataConfig(name="folder", root=str(tmp_path), batch_size=2, crop_size=(32, 48), classes=("a", "b"))


def test_the_plain_data_set_makes_the_same_kind_of_samples(data: DataConfig) -> None:
    """At scale 1 without chance, it even makes the same ones, normalised."""
    still = data.model_copy(update={"scale_range": (1.0, 1.0), "flip_probability": 0.0, "crop_size": (44, 60)})
    dataset = build_dataset(still, "train")
    image, mask = PlainDataset(dataset.pairs, still)[SampleKey(0, 1)]
    ours_image, ours_mask = train_transform(still)(dataset[1].image, dataset[1].mask, 0)
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(mask.numpy(), ours_mask)
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), ours_image / 127.5 - 1, atol=0.01)


def test_every_way_is_measured_and_the_process_is_left_as_it_was(data: DataConfig) -> None:
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None, torch.get_num_threads()
    speeds = measure_loader(data, images=4, rounds=2)
    assert (os.sched_getaffinity(0) if before[0] else None, torch.get_num_threads()) == before
    assert [speed.name for speed in speeds][:2] == ["plain", "segzoo"]
    assert speeds[0].ratio == 1
    assert all(speed.images_per_second > 0 for speed in speeds)
    assert len(speed_table(speeds).splitlines()) == 2 + len(speeds)


def test_the_tool_prints_a_table_and_writes_json(call_tool, data: DataConfig, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"data: {{name: folder, root: '{data.root}', batch_size: 2, crop_size: 16}}\ntrainer: {{max_steps: 1}}\n"
    )
    output = tmp_path / "speed.json"
    result = call_tool("benchmark.py", "--part", "loader", "--images", 2, "--rounds", 1, "--output", output, config)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("| loader | images/s per core | over plain |")
    assert len(json.loads(output.read_text())) == 5
    result = call_tool("benchmark.py", "--part", "loader", config, "data.name=synthetic")
    assert result.returncode == 2
    assert "not read from pairs of files" in result.stderr
