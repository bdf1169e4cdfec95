"""Small data and tables that benchmarks are tried on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def parsed() -> Callable[[str], list[dict[str, str]]]:
    """The rows of the Markdown table that a text begins with, by their headings."""

    def parse(text: str) -> list[dict[str, str]]:
        lines = [line for line in text.splitlines() if line.startswith("|")]
        heads, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert set(rule) <= {"---", "---:"}
        return [dict(zip(heads, row, strict=True)) for row in rows]

    return parse


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Four images and masks of two classes in each of two splits."""
    root = tmp_path / "pairs"
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(4):
            mask = np.random.default_rng(index).integers(0, 2, (40, 50), dtype=np.uint8)
            Image.fromarray(np.repeat(mask[..., None] * np.uint8(200), 3, 2)).save(root / split / f"images/{index}.jpg")
            Image.fromarray(mask).save(root / split / f"masks/{index}.png")
    return root


@pytest.fixture
def small_run(image_folder: Path, tmp_path: Path) -> Path:
    """A configuration of a small network on `image_folder`."""
    path = tmp_path / "run.yaml"
    path.write_text(
        f"data: {{name: folder, root: '{image_folder}', classes: [a, b], batch_size: 2, crop_size: 16}}\n"
        "model: {decoder: deeplabv3plus, output_stride: 16, backbone: {name: xception, width: 0.1}}\n"
        "trainer: {max_steps: 1}\n"
    )
    return path
