"""Images in classes, made on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.classification import ClassificationDataConfig

MakeImages = Callable[..., None]


@pytest.fixture(scope="session")
def make_images() -> MakeImages:
    """Write noise as `names` below a folder."""

    def make(folder: Path, names: Sequence[str], size: tuple[int, int] = (24, 30)) -> None:
        generator = np.random.default_rng(len(names))
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)

    return make


@pytest.fixture(scope="session")
def data_config() -> Callable[..., ClassificationDataConfig]:
    """A `data` section; small images unless it says otherwise."""
    return lambda **keys: ClassificationDataConfig(
        **{"batch_size": 2, "image_size": (16, 20), "num_workers": 0, **keys}
    )
