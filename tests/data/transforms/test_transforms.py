"""The training augmentation."""

import numpy as np
import pytest

from segzoo.config.schema import DataConfig, Preprocessing
from segzoo.data.transforms.training import TrainTransform, scale_factors

SEEDS = range(40)


def config(**data: object) -> DataConfig:
    return DataConfig(name="synthetic", **data)  # type: ignore[arg-type]


def blocks(height: int = 48, width: int = 64, block: int = 16) -> np.ndarray:
    """A mask of large blocks of classes 1 to 9."""
    rows, columns = np.ogrid[:height, :width]
    return (1 + (rows // block * 3 + columns // block) % 9).astype(np.uint8)


def painted(mask: np.ndarray) -> np.ndarray:
    """An image whose every channel is the mask, stretched for the eye."""
    return np.repeat(mask[..., None] * np.uint8(20), 3, axis=2)


def test_scale_factors_of_the_paper() -> None:
    assert scale_factors(0.5, 2.0, 0.25) == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert scale_factors(1.0, 1.0, 0.25) == [1.0]
    assert scale_factors(0.5, 0.9, 0.25) == [0.5, 0.75]


def test_output_is_8_bit_at_crop_size() -> None:
    transform = TrainTransform(config(crop_size=(40, 56)))
    for seed in SEEDS:
        image, mask = transform(painted(blocks()), blocks(), seed)
        assert (image.shape, mask.shape) == ((40, 56, 3), (40, 56))
        assert image.dtype == mask.dtype == np.uint8


def test_padding_is_ignored_and_has_the_mean_colour() -> None:
    mean = (0.2, 0.4, 0.6)
    data = config(
        crop_size=(80, 96), scale_range=(1.0, 1.0), flip_probability=0.0, preprocessing=Preprocessing(mean=mean)
    )
    image, mask = TrainTransform(data)(painted(blocks()), blocks(), 0)
    np.testing.assert_array_equal(mask[:48, :64], blocks())  # the image keeps its place at the top left
    np.testing.assert_array_equal(image[:48, :64], painted(blocks()))
    outside = np.ones((80, 96), bool)
    outside[:48, :64] = False
    assert (mask[outside] == 255).all()
    assert (image[outside] == (51, 102, 153)).all()


def test_padding_is_mid_gray_by_default() -> None:
    image, mask = TrainTransform(config(crop_size=(200, 200)))(painted(blocks()), blocks(), 3)
    assert (mask == 255).any()
    assert (image[mask == 255] == 128).all()


def test_a_mask_painted_into_the_image_stays_in_place() -> None:
    """Away from block borders, where bilinear images blend, the picture says exactly what the mask says."""
    transform = TrainTransform(config(crop_size=(64, 64)))
    for seed in SEEDS:
        image, mask = transform(painted(blocks()), blocks(), seed)
        for channel in range(3):
            matching = image[..., channel] == np.where(mask == 255, 128, mask * np.uint8(20))
            assert matching[_inside(mask)].all(), f"seed {seed}"


def _inside(mask: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours are seen and have their class."""
    padded = np.pad(mask, 1, constant_values=0)
    height, width = mask.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.all([part == mask for part in shifted], axis=0)


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 1.75, 2.0])
def test_mask_pixels_come_from_where_the_image_was_sampled(factor: float) -> None:
    """Columns count up in both: OpenCV's common nearest is off by nearly a whole pixel."""
    columns = np.tile(np.arange(64, dtype=np.uint8), (32, 1))
    image = np.repeat(columns[..., None] * np.uint8(4), 3, axis=2)
    size = (int(32 * factor), int(64 * factor))
    data = config(crop_size=size, scale_range=(factor, factor), flip_probability=0.0)
    scaled_image, scaled_mask = TrainTransform(data)(image, columns, 0)
    sampled_at = scaled_image[..., 0] / 4
    assert np.abs(sampled_at - scaled_mask).max() <= 0.5 + 0.125  # the image itself is rounded to 1/4


@pytest.mark.parametrize("step", [0.0, 0.25])
def test_the_result_is_a_function_of_the_seed(step: float) -> None:
    data = config(crop_size=(16, 16), scale_step=step)
    first, second = TrainTransform(data), TrainTransform(data)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    results = [first(image, blocks(), seed) for seed in SEEDS]
    for seed in reversed(SEEDS):  # another object, another order
        again = second(image, blocks(), seed)
        np.testing.assert_array_equal(again[0], results[seed][0])
        np.testing.assert_array_equal(again[1], results[seed][1])
    assert len({result[0].tobytes() for result in results}) == len(SEEDS)


def test_flip_and_place_are_drawn_independently() -> None:
    """Rows and columns count up in two channels, so that flip and place can be read off the result."""
    rows, columns = np.mgrid[:128, :128].astype(np.uint8)
    image = np.stack([rows, columns, rows], axis=2)
    transform = TrainTransform(config(crop_size=(16, 16), scale_range=(1.0, 1.0)))
    crops = [transform(image, rows, seed)[0].astype(int) for seed in range(400)]
    flip = np.array([crop[0, 0, 1] > crop[0, -1, 1] for crop in crops])
    top = np.array([crop[..., 0].min() for crop in crops])
    left = np.array([crop[..., 1].min() for crop in crops])
    assert 0.4 < flip.mean() < 0.6
    for start in (top, left):
        assert (start.min(), start.max()) == (0, 112)
    correlations = np.corrcoef([flip, top, left])[np.triu_indices(3, k=1)]
    assert np.abs(correlations).max() < 0.2  # one seed for all steps ties flip and top by -0.86


def test_every_factor_occurs() -> None:
    image = np.repeat(np.arange(128, dtype=np.uint8)[None, :, None], 128, axis=0).repeat(3, axis=2)
    transform = TrainTransform(config(crop_size=(16, 16), flip_probability=0.0))
    rows = [transform(image, image[..., 0], seed)[0][0, :, 0].astype(float) for seed in range(200)]
    seen = np.array([15 / (row[-1] - row[0]) for row in rows])
    factors = np.array(scale_factors(0.5, 2.0, 0.25))
    nearest = np.abs(seen[:, None] - factors).argmin(axis=1)
    assert np.bincount(nearest, minlength=len(factors)).min() > 10


def test_inputs_are_left_alone() -> None:
    image, mask = painted(blocks()), blocks()
    image.flags.writeable = mask.flags.writeable = False
    for seed in SEEDS:
        TrainTransform(config(crop_size=(48, 64)))(image, mask, seed)
