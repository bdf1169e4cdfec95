"""Colour, blur, cut-out, rotation, rare classes and extra transforms: aligned, ignored where empty, reproducible."""

import random
from fractions import Fraction

import numpy as np
import pytest

from segzoo.config.schema import DataConfig
from segzoo.data.loading.datamodule import SegmentationDataModule
from segzoo.data.transforms.augmentation import EXTRA_TRANSFORMS
from segzoo.data.transforms.training import TrainTransform, rare_pixel
from segzoo.errors import ConfigError

SIDE = 96
SEEDS = range(6)
# Those that move pixels; all others must leave the mask alone.
PLACES = {
    "Affine", "CoarseDropout", "D4", "ElasticTransform", "Erasing", "GridDistortion", "GridDropout", "HorizontalFlip",
    "OpticalDistortion", "Perspective", "RandomRotate90", "Rotate", "SafeRotate", "SquareSymmetry", "Transpose",
    "VerticalFlip", "XYMasking",
}  # fmt: skip
# Their defaults do nothing, or next to nothing.
NEEDED = {
    "XYMasking": {"num_masks_x": [1, 2], "mask_x_length": [5, 9], "num_masks_y": 0, "mask_y_length": 0},
    "Affine": {"rotate": [-20, 20], "scale": [0.8, 1.2]},
    "ElasticTransform": {"alpha": 300, "sigma": 12},
}


def config(**data: object) -> DataConfig:
    settings = {"name": "folder", "crop_size": SIDE, "scale_range": [1.0, 1.0], "flip_probability": 0.0, **data}
    return DataConfig.model_validate(settings)


def with_extra(*extra: dict[str, object], **data: object) -> DataConfig:
    return config(augmentation={"extra": list(extra)}, **data)


def blocks(side: int = SIDE, block: int = 24) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    return (1 + (rows // block * 4 + columns // block) % 9).astype(np.uint8)


def painted(mask: np.ndarray) -> np.ndarray:
    """An image that says which class each pixel has; 25 levels a class, so that mid-gray is none."""
    return np.repeat(mask[..., None] * np.uint8(25), 3, axis=2)


def inside(mask: np.ndarray, margin: int = 2) -> np.ndarray:
    """Pixels with neighbours of their own class only; away from the border of the crop."""
    sides = range(-margin, margin + 1)
    same = np.all([np.roll(mask, (y, x), (0, 1)) == mask for y in sides for x in sides], axis=0)
    same[:margin] = same[-margin:] = same[:, :margin] = same[:, -margin:] = False
    return same


def assert_aligned(image: np.ndarray, mask: np.ndarray, tolerance: int = 2) -> None:
    expected = np.where(mask == 255, 128, mask.astype(int) * 25)
    flat = inside(mask)
    assert flat.mean() > 0.15  # something is compared
    difference = np.abs(image.astype(int) - expected[..., None]).max(2)
    assert difference[flat].max() <= tolerance


@pytest.mark.parametrize("name", sorted(EXTRA_TRANSFORMS))
def test_every_extra_transform_keeps_image_and_mask_aligned(name: str) -> None:
    transform = TrainTransform(with_extra({"name": name, "p": 1.0, **NEEDED.get(name, {})}), 255)
    mask, moved = blocks(), False
    for seed in SEEDS:
        image, got = transform(painted(mask), mask, seed)
        assert (image.shape, image.dtype, got.shape, got.dtype) == ((SIDE, SIDE, 3), np.uint8, (SIDE, SIDE), np.uint8)
        assert set(np.unique(got)) <= {*range(1, 10), 255}  # no class that was not there: 0 least of all
        moved |= bool((got != mask).any())
        if name in PLACES:
            assert_aligned(image, got)
        else:
            np.testing.assert_array_equal(got, mask)
    assert moved == (name in PLACES)


@pytest.mark.parametrize("name", sorted(EXTRA_TRANSFORMS))
def test_every_extra_transform_is_a_function_of_the_seed(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    results = []
    for state in range(2):  # other objects, and other states of the generators that the seed does not reach
        np.random.seed(state)  # noqa: NPY002  (the legacy state is the point)
        random.seed(state)
        transform = TrainTransform(with_extra({"name": name, "p": 1.0, **NEEDED.get(name, {})}), 255)
        for seed in range(2 * state + 1):
            transform(image, blocks(), seed)
        results.append(transform(image, blocks(), 3))
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_extra_transforms_draw_independently_of_each_other() -> None:
    transform = TrainTransform(with_extra({"name": "HorizontalFlip"}, {"name": "VerticalFlip"}), 255)
    mask = np.arange(4, dtype=np.uint8).reshape(2, 2).repeat(48, 0).repeat(48, 1)
    corners = [int(transform(painted(mask), mask, seed)[1][0, 0]) for seed in range(200)]
    assert np.bincount(corners, minlength=4).min() > 25  # each of the four turns, a quarter of the time


@pytest.mark.parametrize("angle", [15.0, 180.0])
def test_a_turned_mask_stays_on_its_image(angle: float) -> None:
    settings = {"scale_range": [0.5, 2.0], "flip_probability": 0.5, "crop_size": 64}
    transform = TrainTransform(config(**settings, augmentation={"rotation": angle, "vertical_flip": 0.5}), 255)
    mask = blocks()
    results = [transform(painted(mask), mask, seed) for seed in range(20)]
    for image, got in results:
        assert_aligned(image, got)
    assert any((got == 255).any() for _, got in results)


def test_cut_out_is_gray_and_ignored() -> None:
    transform = TrainTransform(config(augmentation={"cutout": 1.0}), 255)
    mask = blocks()
    for seed in SEEDS:
        image, got = transform(painted(mask), mask, seed)
        assert 0.002 < (got == 255).mean() < 4 * 0.2**2 + 0.01
        assert (image[got == 255] == 128).all()
        np.testing.assert_array_equal(image[got != 255], painted(mask)[got != 255])


@pytest.mark.parametrize("ignore_index", [255, 200])
def test_what_has_no_pixel_has_the_ignore_index(ignore_index: int) -> None:
    settings = {
        "recipe": "strong",
        "color": 0,
        "blur": 0,
        "cutout": 1.0,
        "extra": [{"name": "Affine", "scale": 0.7, "p": 1.0}],
    }
    transform = TrainTransform(config(crop_size=128, augmentation=settings), ignore_index)
    for seed in SEEDS:
        image, mask = transform(painted(blocks()), blocks(), seed)
        assert set(np.unique(mask)) <= {*range(1, 10), ignore_index}
        assert (mask == ignore_index).mean() > 0.3
        assert (image[inside(mask) & (mask == ignore_index)] == 128).all()


def test_strong_changes_colours_and_deeplab_does_not() -> None:
    mask = blocks()
    plain, _ = TrainTransform(config(), 255)(painted(mask), mask, 0)
    np.testing.assert_array_equal(plain, painted(mask))
    strong = TrainTransform(config(augmentation={"recipe": "strong", "rotation": 0, "cutout": 0, "blur": 0}), 255)
    image, got = strong(painted(mask), mask, 0)
    np.testing.assert_array_equal(got, mask)
    assert np.abs(image.astype(int) - painted(mask)).mean() > 5


def test_a_key_of_ones_own_replaces_the_recipes() -> None:
    strengths = config(augmentation={"recipe": "strong", "color": 0.1}).augmentation.strengths
    assert strengths.color == 0.1
    assert strengths.rotation > 0
    assert not any(config().augmentation.strengths)


@pytest.mark.parametrize(("channels", "value_range"), [(1, None), (4, None), (5, None), (3, [0.0, 255.0])])
def test_images_that_are_no_rgb_pictures(channels: int, value_range: list[float] | None) -> None:
    data = {"channels": channels, "value_range": value_range, "crop_size": 120}
    transform = TrainTransform(config(**data, augmentation={"recipe": "strong", "cutout": 1.0, "blur": 1.0}), 255)
    image = np.random.default_rng(0).random((SIDE, SIDE, channels), dtype=np.float32)
    for seed in SEEDS:
        got, mask = transform(image, blocks(), seed)
        assert (got.shape, got.dtype) == ((120, 120, channels), np.float32)
        assert 0 <= got.min() <= got.max() <= 1
        assert (mask == 255).any()


def rare_mask() -> np.ndarray:
    mask = np.zeros((400, 600), np.uint8)
    mask[:, 300:] = 1
    mask[350:353, 20:24] = 2
    mask[:40, :40] = 255
    return mask


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.75])
@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_rare_class_crops_find_rare_classes(scale: float, rotation: float) -> None:
    """12 pixels of 240,000: chance alone shows them in few crops, a class drawn by its rarity in most."""
    mask = rare_mask()
    image = np.repeat(mask[..., None], 3, axis=2)

    def share(probability: float) -> float:
        augmentation = {"rare_class_crops": probability, "rotation": rotation}
        data = config(crop_size=48, scale_range=[scale, scale], augmentation=augmentation)
        transform = TrainTransform(data, 255)
        return float(np.mean([(transform(image, mask, seed)[1] == 2).any() for seed in range(120)]))

    weights = 1 / np.log(1.02 + np.array([0.497, 0.503, 5e-5]))
    expected = weights[2] / weights.sum()
    assert share(0.0) < 0.1
    assert share(1.0) == pytest.approx(expected, abs=0.09)
    assert share(0.5) == pytest.approx(expected / 2, abs=0.12)


@pytest.mark.parametrize("factor", ["1/2", "1", "7/4"])
def test_rare_pixels_have_the_class_that_was_drawn(factor: str) -> None:
    mask = rare_mask()
    scale = Fraction(factor)
    generator = np.random.default_rng(0)
    for _ in range(60):
        found = rare_pixel(mask, scale, 255, generator)
        assert found is not None
        row, column = (int((place + 0.5) / scale) for place in found)
        assert mask[row, column] != 255
    assert rare_pixel(np.full((9, 9), 255, np.uint8), scale, 255, generator) is None


def test_all_that_is_wrong_with_extra_transforms_is_said_at_once() -> None:
    data = with_extra(
        {"name": "GausNoise"},
        {"name": "GaussNoise", "std_rang": [0.1, 0.2]},
        {"name": "GaussNoise", "std_range": [0.1, 5.0], "p": 2},
        {"p": 0.5},
        {"name": "Affine", "fill_mask": 0},
        {"name": "D4"},
        {"name": "GaussNoise", "std_range": [0.1, 0.2], "p": 0.3},
        crop_size=[64, 96],
    )
    with pytest.raises(ConfigError) as caught:
        SegmentationDataModule(data, steps=1, seed=0, eval_batch_size=1)
    lines = caught.value.problems
    assert all("\n" not in line for line in lines)
    for line, (number, parts) in zip(
        lines,
        [
            (0, ["unknown transform 'GausNoise'. Did you mean GaussNoise?"]),
            (1, ["GaussNoise: unknown argument 'std_rang'. Did you mean std_range?", "It takes mean_range, "]),
            (2, ["GaussNoise: ", "std_range: ", "not (0.1, 5.0)", "p: ", "not 2"]),
            (3, ["no name. Write it as {name: GaussNoise"]),
            (4, ["Affine: fill_mask cannot be set"]),
            (5, ["D4 turns height into width; set data.crop_size to a square"]),
        ],
        strict=True,
    ):
        assert line.startswith(f"data.augmentation.extra[{number}]: ")
        for part in parts:
            assert part in line


def test_an_extra_transform_that_does_not_fit_the_images_is_refused_before_data_is_read() -> None:
    data = with_extra({"name": "ToSepia"}, channels=5)
    with pytest.raises(ConfigError, match=r"extra\[0\]: ToSepia: not for images of this data set"):
        SegmentationDataModule(data, steps=1, seed=0, eval_batch_size=1)
