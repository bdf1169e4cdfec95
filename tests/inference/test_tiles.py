import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.data.reading.labels import LabelSpace
from segzoo.inference.tiles import Tiling, count_tiles, plan_axis, reader, score_blocks, tiled
from segzoo.models.segmenter import pad_to_multiple


class Local(nn.Module):
    """Convolutions with strides, a dilation and resizing, but no pooling over the image: it sees 47 pixels at most."""

    reach = 23

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 8, 5, padding=2)
        self.down = nn.Conv2d(8, 8, 3, stride=4, padding=1)
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.scores = nn.Conv2d(8, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        padded = pad_to_multiple(image / 255, 32)
        deep = self.wide(self.down(self.fine(padded).relu()).relu())
        resized = F.interpolate(self.scores(deep), scale_factor=4, mode="bilinear")
        return resized[..., : image.shape[-2], : image.shape[-1]]


def largest(scores: Tensor) -> Tensor:
    return scores.argmax(1).to(torch.uint8)


def inferring() -> nn.Module:
    return Local().requires_grad_(False)


@pytest.fixture
def image() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 205, 270), np.uint8))


def test_the_receptive_field_is_what_the_tests_below_say() -> None:
    image = torch.rand(1, 3, 96, 96, requires_grad=True)
    scores = Local()(image)
    for column in range(40, 48):
        (gradient,) = torch.autograd.grad(scores[..., column].sum(), image, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 2)).nonzero()
        assert 10 <= max(column - seen.min(), seen.max() - column) <= Local.reach


@pytest.mark.parametrize(("tile", "overlap"), [(112, 0.42), (128, 0.37), (150, 0.32), (192, 0.25)])
def test_tiles_give_the_whole_images_scores(image: Tensor, tile: int, overlap: float) -> None:
    assert overlap * tile >= 2 * Local.reach + 1
    network = inferring()
    whole, by_tiles = network(image), tiled(network, image, Tiling(tile, overlap))
    assert by_tiles.shape == whole.shape
    assert torch.allclose(by_tiles, whole, atol=1e-5, rtol=0)


def test_without_enough_overlap_they_do_not(image: Tensor) -> None:
    network = inferring()
    for tile, overlap in ((96, 0.0), (96, 0.1)):
        assert (tiled(network, image, Tiling(tile, overlap)) - network(image)).abs().max() > 1e-3


def test_an_image_of_one_tile_has_the_very_numbers_of_the_network(image: Tensor) -> None:
    network = inferring()
    assert torch.equal(tiled(network, image, Tiling(512)), network(image))


def test_blending_equals_a_slow_reference() -> None:
    """Each tile answers with a number of its own, so that the result is nothing but weights."""
    answers = iter(range(1, 100))

    def compute(tiles: Tensor) -> Tensor:
        return torch.full((1, 2, *tiles.shape[-2:]), float(next(answers)))

    by_tiles = tiled(compute, torch.zeros(1, 1, 150, 200), Tiling(96, 0.25))
    rows, columns = plan_axis(150, Tiling(96, 0.25)), plan_axis(200, Tiling(96, 0.25))
    expected = np.zeros((150, 200))
    for y in range(150):
        for x in range(200):
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    if row.first <= y < row.last and column.first <= x < column.last:
                        weight = float(row.weights[y - row.first]) * float(column.weights[x - column.first])
                        expected[y, x] += weight * (1 + i * len(columns) + j)
    assert np.allclose(by_tiles[0, 0], expected, atol=1e-4)
    assert torch.equal(by_tiles[0, 0], by_tiles[0, 1])


def test_blocks_cover_the_image_once(image: Tensor) -> None:
    seen = np.zeros(image.shape[-2:], int)
    for top, left, scores in score_blocks(inferring(), reader(image), seen.shape, Tiling(128)):
        height, width = scores.shape[-2:]
        seen[top : top + height, left : left + width] += 1
    assert (seen == 1).all()


def test_wide_images_are_cut_into_panels_that_do_not_show() -> None:
    wide = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 3, 70, 1417), np.uint8))
    network, calls = inferring(), []

    def compute(tiles: Tensor) -> Tensor:
        calls.append(len(tiles))
        return network(tiles)

    by_tiles = tiled(compute, wide, Tiling(112, 0.42))
    assert torch.allclose(by_tiles, network(wide), atol=1e-5, rtol=0)
    assert len(calls) == count_tiles((70, 1417), Tiling(112, 0.42)) > len(plan_axis(1417, Tiling(112, 0.42)))


def test_several_images_and_tiles_at_a_time_change_nothing(image: Tensor) -> None:
    network = inferring()
    one = tiled(network, image, Tiling(128, 0.4))
    several = tiled(network, torch.cat([image, image.flip(-1)]), Tiling(128, 0.4, batch=3))
    assert torch.allclose(several[:1], one, atol=1e-6)
    assert torch.allclose(several[1:], tiled(network, image.flip(-1), Tiling(128, 0.4)), atol=1e-6)


def test_classes_are_those_of_the_scores(image: Tensor) -> None:
    network = inferring()
    scores = tiled(network, image, Tiling(128, 0.4))
    classes = tiled(network, image, Tiling(128, 0.4), largest)
    assert classes.dtype == torch.uint8
    assert torch.equal(classes.long(), scores.argmax(1))
    labels = LabelSpace.from_names(list("abcde"), multi_label=True)
    several = tiled(network, image, Tiling(128, 0.4), labels.coding.predict_mask)
    assert torch.equal(several, (scores > 0).to(torch.uint8))


MEMORY = """
import torch
from laboratory.benchmarks.memory import forget_peak, peak_bytes, resident_bytes
from segzoo.inference.tiles import Tiling, tiled
torch.set_num_threads(1)
weights = torch.randn(32, 3, 1, 1)

@torch.inference_mode()
def compute(tiles):
    return torch.nn.functional.conv2d(tiles.float(), weights)

def added(height, width):
    image = torch.zeros((1, 3, height, width), dtype=torch.uint8)
    forget_peak()
    before = resident_bytes()
    tiled(compute, image, Tiling(256), lambda scores: scores.max(1).indices.to(torch.uint8))
    return peak_bytes() - before - height * width

added(512, 512)  # what the first call alone takes
print(added(512, 512), added(512, 2048), added(2048, 2048))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what was resident")
def test_memory_does_not_grow_with_the_image(repository: Path) -> None:
    """Beside image and mask; the scores of the largest image alone would take half a gigabyte."""
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # what is freed is given back
    environment = os.environ | at_once | {"PYTHONPATH": str(repository / "tools")}
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=environment)
    small, middle, large = map(int, ran.stdout.split())
    tile = 32 * 256 * 256 * 4
    assert middle - small < 4 * tile
    assert large - middle < 2 * tile
