"""The outlines of a mask's regions, exactly along the edges of its pixels."""

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import shapes

from segzoo.data.reading.labels import LabelSpace

# rasterio mutes this for itself, in a way that threads undo for each other: masks are written by several.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

Ring = list[list[int]]
"""Corners [x, y], of which the last is the first again."""


def feature_collection(mask: npt.NDArray[np.uint8], labels: LabelSpace) -> dict[str, Any]:
    """A mask as GeoJSON: one polygon, with its holes, for every connected region of a class.

    Coordinates are pixels: (0, 0) is the upper left corner of the image, x grows to the right and y downwards; a region
    of one pixel is a square of side 1. Regions are connected through the sides of pixels. Together the polygons cover
    the image without overlap, and each is valid (simple rings that touch in points at most); its properties are
    `class`, `index` and the area in `pixels`. Outer rings turn counterclockwise in numbers, as RFC 7946 wants.
    Polygons are in the order of their classes and then of their first pixels.

    Departure from OpenCV's `findContours`, which leads through the centres of pixels: thin regions would have no area.

    Args:
        mask: class indices (H, W), or a mask for each class (K, H, W), whose polygons overlap where they do; what is
            no class, such as ignored pixels, has no polygon.
        labels: the classes.

    >>> collection = feature_collection(np.array([[0, 1]], np.uint8), LabelSpace.from_names(["a", "b"]))
    >>> collection["features"][1]["geometry"]["coordinates"]
    [[[1, 0], [2, 0], [2, 1], [1, 1], [1, 0]]]
    """
    features = [feature for own in labels.coding.index_maps(mask) for feature in _features(own, labels)]
    return {"type": "FeatureCollection", "features": features}


def _features(mask: npt.NDArray[np.uint8], labels: LabelSpace) -> Iterator[dict[str, Any]]:
    found = []
    for geometry, value in shapes(mask, mask=mask < labels.num_classes, connectivity=4):
        outer, *holes = map(_turned, geometry["coordinates"])
        found.append((int(value), [outer, *sorted(holes, key=_first)]))
    for index, rings in sorted(found, key=lambda region: (region[0], _first(region[1][0]))):
        yield {
            "type": "Feature",
            "properties": {"class": labels.names[index], "index": index, "pixels": sum(map(_signed_area, rings))},
            "geometry": {"type": "Polygon", "coordinates": rings},
        }


def _turned(ring: list[tuple[float, float]]) -> Ring:
    """The other way round, in whole numbers, from the left end of the uppermost side that leads to the right.

    That is where a row by row search for the region, or for what is below a hole, comes upon it.
    """
    points = [[int(x), int(y)] for x, y in reversed(ring)]
    _, start = min((here[::-1], place) for place, (here, there) in enumerate(pairwise(points)) if there[0] > here[0])
    return [*points[start:-1], *points[:start], [*points[start]]]


def _first(ring: Ring) -> tuple[int, int]:
    x, y = ring[0]
    return y, x


def _signed_area(ring: Ring) -> int:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) // 2
