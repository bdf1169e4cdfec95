"""The outlines of a mask's regions, exactly along the edges of its pixels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.data.reading.labels import LabelSpace

Ring = list[tuple[int, int]]
Edges = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Of each edge: the region that owns it, its first and its last corner."""


def feature_collection(mask: npt.NDArray[np.uint8], labels: LabelSpace) -> dict[str, Any]:
    """A mask as GeoJSON: one polygon, with its holes, for every connected region of a class.

    Coordinates are pixels: (0, 0) is the upper left corner of the image, x grows to the right and y downwards; a region
    of one pixel is a square of side 1. Regions are connected through the sides of pixels. Together the polygons cover
    the image without overlap, and each is valid (simple rings that touch in points at most); its properties are
    `class`, `index` and the area in `pixels`. Outer rings turn counterclockwise in numbers, as RFC 7946 wants.

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
    regions, classes, areas = _regions(mask, labels.num_classes)
    for region, rings in sorted(_polygons(regions).items()):
        index = classes[region]
        yield {
            "type": "Feature",
            "properties": {"class": labels.names[index], "index": index, "pixels": areas[region]},
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring) for ring in rings]},
        }


def _regions(mask: npt.NDArray[np.uint8], num_classes: int) -> tuple[npt.NDArray[np.int32], list[int], list[int]]:
    """A number from 1 on for every region, 0 where there is no class; each region's class and area."""
    regions = np.zeros(mask.shape, np.int32)
    classes, areas = [0], [0]
    for index in np.flatnonzero(np.bincount(mask.ravel(), minlength=num_classes)[:num_classes]).tolist():
        count, found, statistics, _ = cv2.connectedComponentsWithStats((mask == index).astype(np.uint8), connectivity=4)
        inside = found > 0
        regions[inside] = found[inside] + (len(classes) - 1)
        classes += [index] * (count - 1)
        areas += statistics[1:, cv2.CC_STAT_AREA].tolist()
    return regions, classes, areas


def _polygons(regions: npt.NDArray[np.int32]) -> dict[int, list[Ring]]:
    """Region -> its outer ring, then its holes."""
    rings: dict[int, list[Ring]] = defaultdict(list)
    for region, ring in _rings(_directed_edges(regions), regions.shape[1] + 1):
        if _signed_area(ring) > 0:
            rings[region].insert(0, ring)
        else:
            rings[region].append(ring)
    return rings


def _directed_edges(regions: npt.NDArray[np.int32]) -> Edges:
    """Sides of pixels between two regions: owner, first and last corner, with the owner on the inner side.

    A corner's number is y * (W + 1) + x. Each side appears once for either region.
    """
    height, width = regions.shape
    padded = np.pad(regions, 1).astype(np.int64)
    corner = np.arange((height + 1) * (width + 1)).reshape(height + 1, width + 1)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]  # (H + 1, W): horizontal sides
    left, right = padded[1:-1, :-1], padded[1:-1, 1:]  # (H, W + 1): vertical sides
    across, down = above != below, left != right
    west, east, north, south = corner[:, :-1][across], corner[:, 1:][across], corner[:-1][down], corner[1:][down]
    owner = np.concatenate([below[across], above[across], left[down], right[down]])
    start = np.concatenate([west, east, north, south])
    end = np.concatenate([east, west, south, north])
    kept = owner > 0
    return owner[kept], start[kept], end[kept]


def _rings(edges: Edges, width: int) -> Iterator[tuple[int, Ring]]:
    """Edges joined end to start within their region, as simple rings without the corners at which they go straight on.

    Where a region touches itself in a corner, two edges arrive and two leave. Any pairing does, for a ring that comes
    through a corner twice is cut in two there.
    """
    owner, start, end = edges
    corners = int(start.max(initial=0)) + 1
    arriving = np.argsort(owner * corners + end, kind="stable")
    leaving = np.argsort(owner * corners + start, kind="stable")
    following = np.empty_like(arriving)
    following[arriving] = leaving
    successor, corner, region = following.tolist(), start.tolist(), owner.tolist()
    done = bytearray(len(corner))
    for first in range(len(corner)):
        if done[first]:
            continue
        path: list[int] = []
        place: dict[int, int] = {}
        edge = first
        while True:
            here = corner[edge]
            if here in place:
                ring = path[place[here] :]
                yield region[first], _turns(ring, width)
                del path[place[here] :]
                for passed in ring:
                    del place[passed]
            if done[edge]:
                break
            done[edge] = True
            place[here] = len(path)
            path.append(here)
            edge = successor[edge]


def _turns(corners: Sequence[int], width: int) -> Ring:
    points = [(number % width, number // width) for number in corners]
    return [
        point
        for before, point, after in zip([points[-1], *points], points, [*points[1:], points[0]], strict=False)
        if (before[0] == point[0]) != (point[0] == after[0])
    ]


def _signed_area(ring: Ring) -> int:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)) // 2


def _closed(ring: Ring) -> list[list[int]]:
    return [list(point) for point in [*ring, ring[0]]]
