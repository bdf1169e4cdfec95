"""Cutting a crop out of a scaled image, against scaling all of it."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from segzoo.data.transforms.training import REDUCTIONS, View, cut_image, cut_mask, scaled_size
from segzoo.errors import DataError

FACTORS = [Fraction(quarters, 4) for quarters in range(1, 9)] + [Fraction(11, 10), Fraction(2, 3), Fraction(45, 32)]
GRAY = (128.0, 128.0, 128.0)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], 2).astype(np.uint8)


def whole(image: np.ndarray, factor: Fraction, size: tuple[int, int]) -> np.ndarray:
    """The plain path: all of the image, scaled by OpenCV, and cut to the size that is rounded down."""
    scaled = cv2.resize(image, None, fx=float(factor), fy=float(factor), interpolation=cv2.INTER_LINEAR)
    return scaled.reshape(*scaled.shape[:2], -1)[: size[0], : size[1]]


def plain_crop(scaled: np.ndarray, view: View, crop: tuple[int, int], fill: float) -> np.ndarray:
    window = scaled[view.top : view.top + crop[0], view.left : view.left + crop[1]]
    missing = [(0, crop[0] - window.shape[0]), (0, crop[1] - window.shape[1])] + [(0, 0)] * (window.ndim - 2)
    padded = np.pad(window, missing, constant_values=fill)
    if view.vertical_flip:
        padded = padded[::-1]
    return padded[:, ::-1] if view.flip else padded


def views(size: tuple[int, int], crop: tuple[int, int], factor: Fraction, seed: int) -> list[View]:
    """Corners and places between, all flips."""
    random = np.random.default_rng(seed)
    height, width = scaled_size(size, factor)
    last = max(0, height - crop[0]), max(0, width - crop[1])
    places = [(0, 0), last, (last[0], 0)] + [tuple(random.integers(0, np.array(last) + 1)) for _ in range(8)]
    return [View(factor, int(top), int(left), bool(n % 2), bool(n // 2 % 2)) for n, (top, left) in enumerate(places)]


@pytest.mark.parametrize("factor", FACTORS, ids=str)
@pytest.mark.parametrize("size", [(97, 131), (60, 64), (33, 200)])
def test_a_crop_equals_that_of_the_whole_scaled_image(factor: Fraction, size: tuple[int, int]) -> None:
    """Noise is the hardest picture: a sampling place off by 1/100 pixel would show."""
    crop = (48, 56)
    image = noise(*size)
    scaled = whole(image, factor, scaled_size(size, factor))
    for view in views(size, crop, factor, seed=1):
        got = cut_image(image, size, view, crop, GRAY)
        difference = np.abs(got.astype(int) - plain_crop(scaled, view, crop, 128))
        assert difference.max() <= 1, view  # OpenCV's own rounding
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_a_mask_is_the_pixel_in_which_each_centre_lies(factor: Fraction) -> None:
    size, crop = (61, 83), (40, 70)
    mask = noise(*size, 1)[..., 0]
    height, width = scaled_size(size, factor)
    centers = [[int((index + 0.5) / float(factor) + 1e-9) for index in range(length)] for length in (height, width)]
    scaled = mask[np.ix_(*centers)]
    for view in views(size, crop, factor, seed=2):
        np.testing.assert_array_equal(cut_mask(mask, view, crop, 255), plain_crop(scaled, view, crop, 255))


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_any_number_of_channels_and_both_types(channels: int, dtype: type, angle: float) -> None:
    """Each channel is what it would be alone."""
    size, crop = (50, 70), (64, 60)
    image = noise(*size, channels).astype(dtype)
    fill = tuple(float(index) for index in range(channels))
    view = View(Fraction(3, 4), 0, 0, flip=True, angle=angle, pivot=(20.0, 30.0))
    got = cut_image(image, size, view, crop, fill)
    assert (got.shape, got.dtype) == ((*crop, channels), dtype)
    for index in range(channels):
        alone = cut_image(image[..., index : index + 1], size, view, crop, fill[index : index + 1])
        np.testing.assert_allclose(got[..., index : index + 1], alone, atol=1e-3 if dtype == np.float32 else 0)


@pytest.mark.parametrize("factor", [Fraction(1, 2), Fraction(1), Fraction(7, 4)], ids=str)
def test_turning_by_nothing_changes_nothing_and_by_half_a_turn_reverses(factor: Fraction) -> None:
    size, crop = (80, 90), (24, 32)
    image, mask = smooth(*size), noise(*size, 1)[..., 0]
    straight = View(factor, 6, 8)
    center = (6 + crop[0] / 2, 8 + crop[1] / 2)
    hardly, half = View(factor, 6, 8, angle=1e-9, pivot=center), View(factor, 6, 8, angle=180.0, pivot=center)
    expected = cut_image(image, size, straight, crop, GRAY).astype(int)
    assert np.abs(cut_image(image, size, hardly, crop, GRAY) - expected).max() <= 2  # a warp counts in 1/32 pixels
    assert np.abs(cut_image(image, size, half, crop, GRAY)[::-1, ::-1] - expected).max() <= 2
    if factor == 1:
        np.testing.assert_array_equal(cut_mask(mask, hardly, crop, 255), cut_mask(mask, straight, crop, 255))


def test_the_pivot_stays_and_the_content_turns_clockwise() -> None:
    """One bright pixel right of the pivot, a quarter turn: below it."""
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 30] = 255
    image[20, 20] = 100
    view = View(Fraction(1), 0, 0, angle=90.0, pivot=(20.5, 20.5))
    turned = cut_image(image, (41, 41), view, (41, 41), GRAY)
    assert turned[20, 20, 0] == 100
    assert turned[30, 20, 0] == 255


@pytest.mark.parametrize("factor", [Fraction(1, 2), Fraction(1, 4), Fraction(1, 8), Fraction(3, 16)], ids=str)
def test_an_image_that_its_decoder_shrank_shows_the_same_place(factor: Fraction) -> None:
    """Rows and columns count up, so that each pixel says where it was sampled."""
    size, crop = (375, 501), (20, 24)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    image = np.stack([rows, columns, rows], 2)
    for reduction in [r for r in REDUCTIONS if r * factor <= 1]:
        padded = np.pad(image, [(0, -size[0] % reduction), (0, -size[1] % reduction), (0, 0)], mode="edge")
        shape = padded.shape[0] // reduction, reduction, padded.shape[1] // reduction, reduction, 3
        shrunk = padded.reshape(shape).mean((1, 3))  # what the decoder does
        view = View(factor, 3, 5)
        expected = cut_image(image, size, view, crop, GRAY)
        np.testing.assert_allclose(cut_image(shrunk, size, view, crop, GRAY), expected, atol=1e-2)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"the image has \(10, 12\) pixels, but its mask \(11, 12\)"):
        cut_image(noise(10, 12), (11, 12), View(Fraction(1), 0, 0), (4, 4), GRAY)


def test_a_pixel_that_scaling_would_round_away_stays() -> None:
    assert scaled_size((1, 5000), Fraction(1, 2)) == (1, 2500)
    view = View(Fraction(1, 2), 0, 0)
    image = cut_image(noise(1, 50), (1, 50), view, (4, 30), GRAY)
    mask = cut_mask(np.full((1, 50), 7, np.uint8), view, (4, 30), 255)
    assert (image[1:] == 128).all()
    assert (image[:, 25:] == 128).all()
    assert (image[0, :25] != 128).any()
    assert (mask[0, :25] == 7).all()
    assert (mask == 255).sum() == 4 * 30 - 25
