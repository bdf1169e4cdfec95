"""The comparison of loaders: what it compares, not how fast it is."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from laboratory.benchmarks.harness import row_table
from laboratory.benchmarks.loader import PlainDataset, measure_loader
from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.loading.sampling import SampleKey
from segzoo.data.transforms.training import TrainTransform


@pytest.fixture
def data(image_folder: Path) -> DataConfig:
    return DataConfig(name="folder", root=str(image_folder), batch_size=2, crop_size=(32, 48), classes=("a", "b"))


def test_the_plain_data_set_makes_the_same_kind_of_samples(data: DataConfig) -> None:
    """At scale 1 without chance, it even makes the same ones, normalised."""
    still = data.model_copy(update={"scale_range": (1.0, 1.0), "flip_probability": 0.0, "crop_size": (44, 60)})
    dataset = build_dataset(still, "train")
    image, mask = PlainDataset(dataset.pairs, still)[SampleKey(0, 1)]
    ours_image, ours_mask = TrainTransform(still)(dataset[1].image, dataset[1].mask, 0)
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(mask.numpy(), ours_mask)
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), ours_image / 127.5 - 1, atol=0.01)


def test_every_way_is_measured_and_the_process_is_left_as_it_was(data: DataConfig, parsed) -> None:
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None, torch.get_num_threads()
    speeds = measure_loader(data, images=4, rounds=2)
    assert (os.sched_getaffinity(0) if before[0] else None, torch.get_num_threads()) == before
    assert [speed.way for speed in speeds][:2] == ["plain", "segzoo"]
    assert speeds[0].ratio == 1
    assert all(speed.images_per_second > 0 for speed in speeds)
    assert [row["way"] for row in parsed(row_table(speeds))] == [speed.way for speed in speeds]


@pytest.mark.parametrize(("images", "read"), [(4, 4), (3, 2), (1, 1)], ids=["even", "no half batches", "one"])
def test_figures_are_those_of_the_clock_and_of_what_was_read(data: DataConfig, images: int, read: int) -> None:
    ticks = iter(range(1000))
    speeds = measure_loader(data, images=images, rounds=3, clock=lambda: 2.0 * next(ticks))
    assert {(speed.images_per_second, speed.ratio) for speed in speeds} == {(read / 2, 1.0)}
