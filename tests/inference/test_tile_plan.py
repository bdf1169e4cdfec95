from itertools import pairwise, product
from math import ceil

import numpy as np
import pytest

from segzoo.config.load import config_from_tree
from segzoo.errors import ConfigError
from segzoo.inference.tiles import Tiling, plan_axis, plan_panels

PLANS = list(product((1, 33, 64, 65, 96, 97, 513, 1000, 2048), (32, 64, 100, 256, 513), (0.0, 0.1, 0.25, 1 / 3, 0.5)))


@pytest.mark.parametrize(("length", "tile", "overlap"), PLANS)
def test_every_pixel_counts_once(length: int, tile: int, overlap: float) -> None:
    total = np.zeros(length)
    for span in plan_axis(length, Tiling(tile, overlap)):
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.size <= tile
        assert span.weights.min() > 0
        total[span.first : span.last] += span.weights
    assert np.allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize(("length", "tile", "overlap"), PLANS)
def test_a_pixel_that_counts_has_half_the_overlap_around_it(length: int, tile: int, overlap: float) -> None:
    spans = plan_axis(length, Tiling(tile, overlap))
    reach = (ceil(overlap * tile) - 1) / 2
    assert (spans[0].first, spans[-1].last) == (0, length)
    for span in spans:
        assert span.start == 0 or span.first - span.start >= reach
        assert span.stop == length or span.stop - span.last >= reach


@pytest.mark.parametrize(("length", "tile", "overlap"), PLANS)
def test_tiles_begin_on_the_grid_as_few_as_it_allows(length: int, tile: int, overlap: float) -> None:
    spans = plan_axis(length, Tiling(tile, overlap))
    starts = [span.start for span in spans]
    assert starts == sorted(set(starts))
    furthest = tile - ceil(1.5 * ceil(overlap * tile))
    grid = next(size for size in (32, 16, 8, 4, 2, 1) if size <= furthest)
    assert all(start % grid == 0 for start in starts)
    fewest = 1 + max(0, ceil((length - tile) / (furthest // grid * grid)))
    assert fewest <= len(spans) <= fewest + 1  # one more where the image does not end on the grid
    assert all(span.size > tile - grid for span in spans[-1:] if len(spans) > 1)


def test_weights_fall_towards_the_borders() -> None:
    middle = plan_axis(2048, Tiling(512, 0.25))[2]
    top = middle.weights.argmax()
    assert middle.weights[top] == 1
    assert (np.diff(middle.weights[:top]) >= 0).all()
    assert (np.diff(middle.weights[top:]) <= 0).all()
    assert middle.weights[0] < 0.05


def test_an_image_of_one_tile_is_untouched() -> None:
    (span,) = plan_axis(512, Tiling(512, 0.25))
    assert (span.size, span.weights.min(), span.weights.max()) == (512, 1, 1)


@pytest.mark.parametrize("width", [1, 500, 4096, 4097, 5000, 20000, 123_456])
def test_panels_cover_the_width(width: int) -> None:
    edges = list(plan_panels(width, 4096, 512))
    assert (edges[0][0], edges[-1][1]) == (0, width)
    assert all(right == left for (_, right), (left, _) in pairwise(edges))
    assert all(left < right <= left + 4096 + 512 for left, right in edges)
    assert all(left % 512 == 0 for left, _ in edges)


def test_a_clipped_tile_keeps_its_weights() -> None:
    span = plan_axis(2048, Tiling(512, 0.25))[1]
    left, right = span.clipped(0, 500), span.clipped(500, 9999)
    assert (left.first, left.last, right.first, right.last) == (span.first, 500, 500, span.last)
    assert np.array_equal(np.concatenate([left.weights, right.weights]), span.weights)


def test_both_problems_in_one_go() -> None:
    with pytest.raises(ConfigError) as caught:
        plan_axis(100, Tiling(8, 0.9))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["tile", "tile_overlap"]


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"tile": 31}, "evaluation.tile: should be greater than or equal to 32"),
        ({"tile": 512, "tile_overlap": 0.6}, "evaluation.tile_overlap: should be less than or equal to 0.5, not 0.6"),
        ({"tile_overlap": 0.1}, "evaluation: tile_overlap needs tile, such as evaluation.tile=auto"),
        ({"tile": "whole"}, "'auto'"),
        ({"tta_scales": [1, 2]}, "evaluation: tta_scales need tta; write evaluation.tta=true, too"),
        ({"tta_scales": [1, 2], "tta_flip": False}, "tta_scales and tta_flip need tta"),
        ({"tta": True, "tta_scales": []}, "evaluation.tta_scales: takes at least 1 value"),
        ({"tta": True, "tta_scales": [0.0]}, "evaluation.tta_scales: should be greater than or equal to 0.1"),
        ({"tta": True, "tta_scales": [1, 1.0]}, "names a scale twice"),
    ],
)
def test_the_configuration_refuses(evaluation: dict[str, object], said: str) -> None:
    tree = {"data": {"name": "synthetic"}, "trainer": {"max_steps": 1}, "evaluation": evaluation}
    with pytest.raises(ConfigError) as caught:
        config_from_tree(tree)
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0]
