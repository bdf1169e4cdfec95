import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from rasterio import features
from scipy import ndimage

from segzoo.data.reading.labels import LabelSpace
from segzoo.inference.polygons import feature_collection

LABELS = LabelSpace.from_names(["ground", "car", "tree"])


def signed_area(ring: list[list[int]]) -> float:
    x, y = np.array(ring, float).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def test_a_ring_with_a_hole_that_touches_it_in_a_corner() -> None:
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]], np.uint8)  # open only through a corner
    car = next(f for f in feature_collection(mask, LABELS)["features"] if f["properties"]["class"] == "car")
    outer, hole = car["geometry"]["coordinates"]
    assert (signed_area(outer), signed_area(hole)) == (8, -1)
    assert (outer[0], hole[0]) == ([0, 0], [1, 2])
    assert [2, 2] in outer
    assert [2, 2] in hole
    assert car["properties"] == {"class": "car", "index": 1, "pixels": 7}


@pytest.mark.parametrize("seed", range(40))
def test_polygons_are_valid_and_cover_the_mask_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.integers(0, 3, tuple(random.integers(1, 14, 2))).astype(np.uint8)
    mask[random.random(mask.shape) < 0.1] = 255
    collection = json.loads(json.dumps(feature_collection(mask, LABELS)))
    drawn = np.full(mask.shape, 255, np.uint8)
    for feature in collection["features"]:
        outer, *holes = feature["geometry"]["coordinates"]
        for ring in (outer, *holes):
            assert ring[0] == ring[-1]
            assert len({tuple(point) for point in ring}) == len(ring) - 1 >= 4  # simple: no corner twice
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        assert sum(map(signed_area, (outer, *holes))) == feature["properties"]["pixels"]
        inside = features.rasterize([feature["geometry"]], out_shape=mask.shape).astype(bool)
        assert (drawn[inside] == 255).all()  # no two overlap
        drawn[inside] = feature["properties"]["index"]
    np.testing.assert_array_equal(drawn, mask)
    found = []
    for feature in collection["features"]:
        x, y = feature["geometry"]["coordinates"][0][0]
        found.append((feature["properties"]["index"], (y, x), feature["properties"]["pixels"]))
    assert found == list(regions(mask))


def regions(mask: np.ndarray) -> Iterator[tuple[int, tuple[int, int], int]]:
    """Class, first pixel and size of what SciPy finds connected."""
    for index in range(len(LABELS.names)):
        labelled, count = ndimage.label(mask == index)
        for region in range(1, count + 1):
            pixels = np.argwhere(labelled == region)
            yield index, tuple(pixels[0].tolist()), len(pixels)


def test_planes_of_classes_overlap() -> None:
    labels = LabelSpace.from_names(["dog", "animal"], multi_label=True)
    planes = np.array([[[1, 0]], [[1, 1]]], np.uint8)
    found = [feature["properties"] for feature in feature_collection(planes, labels)["features"]]
    assert [(entry["class"], entry["pixels"]) for entry in found] == [("dog", 1), ("animal", 2)]


def test_masks_that_threads_outline_at_once_are_no_reason_to_warn() -> None:
    code = (
        "import threading, numpy as np\n"
        "from segzoo.data.reading.labels import LabelSpace\n"
        "from segzoo.inference.polygons import feature_collection\n"
        "mask = np.random.default_rng(0).integers(0, 4, (20, 20)).astype(np.uint8)\n"
        "labels = LabelSpace.from_names(list('abcd'))\n"
        "outline = lambda: [feature_collection(mask, labels) for _ in range(40)]\n"
        "work = [threading.Thread(target=outline) for _ in range(6)]\n"
        "[thread.start() for thread in work]\n"
        "[thread.join() for thread in work]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
