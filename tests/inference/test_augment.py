import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.config.load import config_from_tree
from segzoo.data.reading.coding import MaskCoding
from segzoo.data.reading.labels import LabelSpace
from segzoo.inference.augment import (
    TestTimeAugmentation,
    augmented_scores,
    configured_augmentation,
    published_augmentation,
)
from segzoo.inference.tiles import Tiling, tiled
from segzoo.models.segmenter import pad_to_multiple

VOC = TestTimeAugmentation((0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)


@pytest.fixture
def network() -> nn.Module:
    """Lopsided kernels, so that a mirrored image has other scores."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)).requires_grad_(False)


def coding_of(multi_label: bool = False) -> MaskCoding:
    return LabelSpace.from_names("abcd", multi_label=multi_label).coding


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 37, 53)


def _matrix(target: int, source: int) -> np.ndarray:
    """Bilinear resizing along one axis: each target pixel's centre between the two source pixels next to it."""
    matrix = np.zeros((target, source))
    for row in range(target):
        place = min(max((row + 0.5) * source / target - 0.5, 0), source - 1)
        below = min(math.floor(place), source - 1)
        matrix[row, below] += 1 - (place - below)
        matrix[row, min(below + 1, source - 1)] += place - below
    return matrix


def _resize(values: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = _matrix(height, values.shape[-2]), _matrix(width, values.shape[-1])
    return np.einsum("yi,ncij,xj->ncyx", rows, values, columns)


def _reference(network: nn.Module, images: Tensor, wanted: TestTimeAugmentation, multi_label: bool) -> np.ndarray:
    answers = []
    height, width = images.shape[-2:]
    for scale in wanted.scales:
        for mirrored in (False, True) if wanted.flip else (False,):
            seen = _resize(images.double().numpy(), int(height * scale + 0.5), int(width * scale + 0.5))
            seen = seen[..., ::-1] if mirrored else seen
            scores = network(torch.tensor(seen.copy(), dtype=torch.float32)).double().numpy()
            if multi_label:
                probabilities = 1 / (1 + np.exp(-scores))
            else:
                probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            answers.append(_resize(probabilities[..., ::-1] if mirrored else probabilities, height, width))
    return np.mean(answers, axis=0)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("wanted", [VOC, TestTimeAugmentation((0.6, 1.3), flip=False)], ids=["voc", "odd scales"])
def test_equals_a_reference_without_torch(
    network: nn.Module, images: Tensor, wanted: TestTimeAugmentation, multi_label: bool
) -> None:
    scores = augmented_scores(network, images, wanted, coding_of(multi_label))
    probabilities = scores.sigmoid() if multi_label else scores.softmax(1)
    assert np.allclose(probabilities, _reference(network, images, wanted, multi_label), atol=1e-5)


def test_the_image_itself_is_no_augmentation(network: nn.Module, images: Tensor) -> None:
    assert torch.equal(
        augmented_scores(network, images, TestTimeAugmentation((1.0,), flip=False), coding_of()), network(images)
    )


def test_a_mirrored_image_has_the_mirrored_answer(network: nn.Module, images: Tensor) -> None:
    straight = augmented_scores(network, images, VOC, coding_of())
    assert torch.allclose(augmented_scores(network, images.flip(-1), VOC, coding_of()).flip(-1), straight, atol=1e-5)
    assert not torch.allclose(network(images.flip(-1)).flip(-1), network(images), atol=1e-2)


def test_bytes_are_the_same_image(network: nn.Module) -> None:
    images = torch.randint(0, 256, (1, 3, 20, 31), dtype=torch.uint8)

    def engine(tiles: Tensor) -> Tensor:
        return network(tiles if tiles.is_floating_point() else tiles / 255)

    assert torch.allclose(
        augmented_scores(engine, images, VOC, coding_of()),
        augmented_scores(engine, images / 255, VOC, coding_of()),
        atol=1e-5,
    )


def test_certain_answers_stay_finite(images: Tensor) -> None:
    for multi_label in (False, True):
        scores = augmented_scores(lambda seen: seen[:, :3] * 1000, images, VOC, coding_of(multi_label))
        assert scores.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (2, 3)])
def test_smallest_images(network: nn.Module, size: tuple[int, int]) -> None:
    assert augmented_scores(network, torch.rand(1, 3, *size), VOC, coding_of()).shape == (1, 4, *size)


class Strided(nn.Module):
    """Cells of 16 pixels that know nothing of each other: whoever cuts them elsewhere gets other scores."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 4, 16, stride=16).requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        scores = F.interpolate(self.cells(pad_to_multiple(image, 16)), scale_factor=16.0)
        return scores[..., : image.shape[-2], : image.shape[-1]]


@pytest.mark.parametrize(("tile", "flip"), [(384, True), (352, False)])
def test_tiles_of_augmented_images_equal_the_whole(tile: int, flip: bool) -> None:
    """Mirrored cells count from the right border: tile and image are multiples of the grid there."""
    image, strided, wanted = torch.rand(1, 3, 500, 640), Strided(), TestTimeAugmentation(VOC.scales, flip)

    def augmented(images: Tensor) -> Tensor:
        return augmented_scores(strided, images, wanted, coding_of())

    whole = augmented(image)
    assert torch.allclose(tiled(augmented, image, Tiling(tile, 0.25, wanted.grid)), whole, atol=1e-5, rtol=0)
    if not flip:
        assert not torch.allclose(tiled(augmented, image, Tiling(tile, 0.25)), whole, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("scales", "grid"), [((1.0,), 32), ((0.5, 1.0), 64), ((0.75, 1.25), 128), ((1.5, 0.2), 320)])
def test_every_scales_tiles_begin_on_its_own_grid(scales: tuple[float, ...], grid: int) -> None:
    augmentation = TestTimeAugmentation(scales, flip=False)
    assert augmentation.grid == grid
    assert all(round(grid * scale, 6) % 32 == 0 for scale in scales)


def test_published_sets() -> None:
    assert published_augmentation("voc") == published_augmentation("folder") == VOC
    assert published_augmentation("cityscapes") == TestTimeAugmentation((0.75, 1.0, 1.25), flip=True)


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        ({}, None),
        ({"tta": True}, TestTimeAugmentation((0.75, 1.0, 1.25), flip=True)),
        ({"tta": True, "tta_flip": False}, TestTimeAugmentation((0.75, 1.0, 1.25), flip=False)),
        ({"tta": True, "tta_scales": [1, 2.0]}, TestTimeAugmentation((1.0, 2.0), flip=True)),
    ],
)
def test_configured(evaluation: dict[str, object], expected: TestTimeAugmentation | None) -> None:
    tree = {"data": {"name": "cityscapes"}, "trainer": {"max_steps": 1}, "evaluation": evaluation}
    assert configured_augmentation(config_from_tree(tree)) == expected
