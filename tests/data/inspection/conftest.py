"""A small folder of sound images and masks, to plant faults in."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 16, 20


def add_pair(folder: Path, name: str, seed: int) -> None:
    """A noisy RGB image and a mask that holds classes 0, 1 and 2."""
    random = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    image = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = random.integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(image).save(folder / "images" / f"{name}.png")
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """30 training and 5 validation pairs of three classes, nothing wrong with them."""
    root = tmp_path / "set"
    for index in range(30):
        add_pair(root / "train", f"t{index:02}", index)
    for index in range(5):
        add_pair(root / "val", f"v{index:02}", 100 + index)
    (root / "classes.txt").write_text("background\ncell\nedge\n")
    return root
