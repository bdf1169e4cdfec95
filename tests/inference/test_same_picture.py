"""One picture in many files: the mask is that of its conversion to upright 8-bit RGB."""

from pathlib import Path

import numpy as np
import pytest
from inference.lively import lively_checkpoint
from inference.mixed_files import GOOD, picture
from PIL import Image

from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult


@pytest.fixture(scope="module")
def predictor(tiny_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(lively_checkpoint(tiny_run, tmp_path_factory.mktemp("lively") / "lively.ckpt"), device="cpu")


@pytest.mark.parametrize("name", GOOD)
def test_the_mask_is_that_of_upright_8_bit_rgb(predictor: Predictor, tmp_path: Path, name: str) -> None:
    meant = GOOD[name](tmp_path / name, picture(5, 40, 60))
    prediction = predictor(tmp_path / name)
    np.testing.assert_array_equal(prediction.image, meant)
    np.testing.assert_array_equal(prediction.mask, predictor(meant).mask)
    assert len(np.unique(prediction.mask)) > 1  # or every mask would equal every other


def test_lossy_files_stay_near_the_lossless_mask(predictor: Predictor, tmp_path: Path) -> None:
    """How much compression may cost: the tolerance that is stated for JPEG and WebP of quality 90."""
    rgb = picture(5, 40, 60)
    for name in ("photo.jpg", "photo.webp", "exif1.jpg"):
        GOOD[name](tmp_path / name, rgb)
        same = (predictor(tmp_path / name).mask == predictor(rgb).mask).mean()
        assert same > 0.9, (name, same)


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith("exif")])
def test_an_open_picture_is_its_file(predictor: Predictor, tmp_path: Path, name: str) -> None:
    """By the same rules for 16 bits, palettes and transparency; only turning is left to whoever opened it."""
    meant = GOOD[name](tmp_path / name, picture(5, 40, 60))
    with Image.open(tmp_path / name) as opened:
        np.testing.assert_array_equal(predictor(opened).image, meant)
