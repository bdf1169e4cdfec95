"""The comparison of engines: what it compares, not how fast it is."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.inference.engines.folding import folded
from segzoo.models.smp.peer import as_segmenter, peer_network

ENCODER = "tu-xception41"


def test_the_peer_for_our_engines_is_the_peer() -> None:
    network = peer_network(5, ENCODER)
    segmenter = as_segmenter(network)
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = network(image)
        assert torch.equal(segmenter(image), expected)
        torch.testing.assert_close(folded(segmenter)(image), expected, atol=1e-4, rtol=1e-3)
        assert torch.equal(segmenter(image), expected), "its hooks kept something"
    copy.deepcopy(segmenter)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["engines", "predict", "evaluate"])
def test_the_tool_measures_every_part(call_tool, tmp_path: Path, part: str) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(2):
            mask = np.random.default_rng(index).integers(0, 2, (33, 50), dtype=np.uint8)
            Image.fromarray(np.repeat(mask[..., None] * np.uint8(200), 3, 2)).save(
                tmp_path / f"{split}/images/{index}.jpg"
            )
            Image.fromarray(mask).save(tmp_path / f"{split}/masks/{index}.png")
    config = tmp_path / "run.yaml"
    config.write_text(
        f"data: {{name: folder, root: '{tmp_path}', classes: [a, b]}}\n"
        "model: {backbone: {name: xception, width: 0.1}}\ntrainer: {max_steps: 1}\n"
    )
    output = tmp_path / "speed.json"
    options = ["--engines", "torch"] if part == "engines" else []
    result = call_tool(
        "benchmark.py", "--part", part, "--images", 2, "--rounds", 1, "--output", output, *options, config
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())
    assert len(result.stdout.strip().splitlines()) == 2 + len(rows)
    if part == "engines":
        assert [(row["way"], row["precision"]) for row in rows] == [
            ("plain loop", "fp32"),
            *[("torch", "fp32"), ("torch", "bf16")] * 2,
        ]
        assert rows[0]["ratio"] == 1
