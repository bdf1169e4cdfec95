"""What the network sees of an image."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2

from segzoo.data.transforms.classification import CenterView, TrainView

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
ROWS, COLUMNS = np.indices((200, 200), dtype=np.float32) / 200
PLACES = np.dstack([ROWS, COLUMNS])
"""An image whose two channels say where a pixel is."""

AUGMENTATIONS = {
    "vertical_flip": 0.5,
    "rotation": 20.0,
    "shear": 10.0,
    "zoom": 0.2,
    "color": 0.3,
    "rand_augment": 9,
}


def config_of(data_config, **keys):
    return data_config(name="csv", **keys)


@pytest.mark.parametrize(("size", "share"), [((16, 16), 1.0), ((16, 16), 0.875), ((20, 40), 0.5), ((90, 90), 0.9)])
@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (61, 37)])
def test_the_centre_is_what_pillow_cuts_and_scales(data_config, size, share, shape):
    photo = PHOTO[: shape[0], : shape[1]] if shape != (80, 60) else PHOTO.transpose(1, 0, 2)
    view = CenterView(config_of(data_config, image_size=size, center_crop=share))
    window = view.window(*photo.shape[:2])
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    expected = Image.fromarray(np.ascontiguousarray(photo)).crop(box).resize(size[::-1], Image.Resampling.BILINEAR)
    difference = view(photo).permute(1, 2, 0).numpy().astype(int) - np.asarray(expected).astype(int)
    assert abs(difference).max() <= 1
    # The window is central, of the right proportions and the right share of the largest such window.
    largest = min(photo.shape[0] / size[0], photo.shape[1] / size[1])
    assert abs(window.height - share * largest * size[0]) <= 0.5
    assert abs(window.width - share * largest * size[1]) <= 0.5
    assert abs(2 * window.top + window.height - photo.shape[0]) <= 1
    assert abs(2 * window.left + window.width - photo.shape[1]) <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_images_have_a_centre_and_crops(data_config, shape):
    config = config_of(data_config, image_size=(299, 299))
    image = np.full((*shape, 3), 77, np.uint8)
    for seen in (CenterView(config)(image), TrainView(config)(image, 0)):
        assert seen.shape == (3, 299, 299)
        assert (seen == 77).all()


def test_pixels_keep_their_type_and_channels(data_config):
    config = config_of(data_config, channels=2, augmentation={"rotation": 30.0, "shear": 5.0, "zoom": 0.1})
    for seen in (CenterView(config)(PLACES), TrainView(config)(PLACES, 0)):
        assert (seen.shape, seen.dtype) == ((2, 16, 20), torch.float32)


@pytest.mark.parametrize("name", [*AUGMENTATIONS, "all"])
def test_a_view_is_a_function_of_image_and_seed(data_config, name):
    chosen = AUGMENTATIONS if name == "all" else {name: AUGMENTATIONS[name]}
    view, plain = (TrainView(config_of(data_config, augmentation=keys)) for keys in (chosen, {}))
    before = torch.get_rng_state()
    seen = [view(PHOTO, seed) for seed in range(8)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert all(torch.equal(view(PHOTO, seed), first) for seed, first in enumerate(seen))
    assert len({image.numpy().tobytes() for image in seen}) == 8
    assert any(not torch.equal(plain(PHOTO, seed), first) for seed, first in enumerate(seen))  # it does something


def places(data_config, draws, **keys):
    """Of each draw: centre and sides of the crop, as shares of the image, and whether it is flipped."""
    view = TrainView(config_of(data_config, channels=2, image_size=(32, 32), **keys))
    seen = torch.stack([view(PLACES, seed) for seed in range(draws)])
    rows, columns = seen[:, 0].mean(2), seen[:, 1].mean(1)
    height = (rows[:, 24] - rows[:, 8]) * 2
    width = (columns[:, 24] - columns[:, 8]) * 2
    return height.numpy(), width.numpy()


def test_crops_cover_the_areas_and_proportions_asked_for(data_config):
    keys = {"crop_area": (0.25, 0.5), "crop_ratio": (0.5, 2.0), "augmentation": {"horizontal_flip": 0.0}}
    height, width = places(data_config, 300, **keys)
    # Areas are alike likely, and so are the logarithms of the proportions; a side of 1 is the image's.
    assert stats.kstest(height * width, stats.uniform(0.25, 0.25).cdf).pvalue > 0.01
    assert stats.kstest(np.log2(width / height), stats.uniform(-1, 2).cdf).pvalue > 0.01


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, 0), (1.0, 40), (0.5, 20)])
def test_flips_are_as_likely_as_asked_for(data_config, probability, flipped):
    keys = {"horizontal_flip": probability, "vertical_flip": probability}
    height, width = places(data_config, 40, augmentation=keys)
    for side in (height, width):
        assert abs(int((side < 0).sum()) - flipped) <= (10 if 0 < flipped < 40 else 0)


def test_shear_and_zoom_stay_within_what_was_asked_for(data_config):
    whole = {"crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    zoomed = {"horizontal_flip": 0.0, "zoom": 0.25}
    height, width = places(data_config, 100, **whole, augmentation=zoomed)
    assert np.allclose(height, width, atol=0.01)
    # The image's share that is seen is one over how much it grew.
    assert 1 / 1.25 - 0.01 <= height.min() < 0.86
    assert 1.15 < height.max() <= 1 / 0.75 + 0.01 or height.max() > 1  # what lies outside is the mean colour


def test_rand_augment_is_torchvisions(data_config):
    keys = {"crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "image_size": (60, 80)}
    augmentation = {"horizontal_flip": 0.0, "rand_augment": 14, "rand_augment_operations": 3}
    config = config_of(data_config, **keys, augmentation=augmentation, preprocessing={"mean": (0.2, 0.4, 0.6)})
    view = TrainView(config)
    whole = TrainView(config_of(data_config, **keys, augmentation={"horizontal_flip": 0.0}))
    theirs = v2.RandAugment(3, 14, interpolation=v2.InterpolationMode.BILINEAR, fill=[51, 102, 153])
    for seed in range(5):
        crop = v2.RandomResizedCrop((60, 80), (1, 1), (1, 1))
        torch.manual_seed(seed)
        image = torch.from_numpy(PHOTO).permute(2, 0, 1)
        expected = theirs(v2.RandomVerticalFlip(0)(v2.RandomHorizontalFlip(0)(crop(image))))
        assert torch.equal(view(PHOTO, seed), expected)
        assert not torch.equal(view(PHOTO, seed), whole(PHOTO, seed))
