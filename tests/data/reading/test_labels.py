"""LabelSpace: what values in mask files mean."""

import json

import numpy as np
import pytest

from segzoo.data.datasets.camvid import LABELS as CAMVID
from segzoo.data.datasets.voc import LABELS as VOC
from segzoo.data.reading.labels import LabelSpace, voc_palette
from segzoo.errors import ConfigError, DataError

# Copied from VOC's class colour list, not from the function under test.
VOC_COLORS = {
    0: (0, 0, 0),
    1: (128, 0, 0),
    2: (0, 128, 0),
    8: (64, 0, 0),
    15: (192, 128, 128),
    20: (0, 64, 128),
    255: (224, 224, 192),
}


def test_voc_palette_has_the_published_colours() -> None:
    palette = voc_palette(256)
    assert {index: palette[index] for index in VOC_COLORS} == VOC_COLORS
    assert len(set(palette)) == 256


def test_flat_palette_holds_classes_then_black_and_the_ignored_colour() -> None:
    flat = np.array(VOC.flat_palette()).reshape(256, 3)
    assert {index: tuple(flat[index].tolist()) for index in VOC_COLORS} == VOC_COLORS
    assert not flat[21:255].any()


def test_voc_and_camvid_have_their_well_known_classes() -> None:
    assert (VOC.num_classes, VOC.names[15], VOC.names[20]) == (21, "person", "tvmonitor")
    assert CAMVID.names[:4] == ("Sky", "Building", "Pole", "Road")
    assert (CAMVID.num_classes, CAMVID.palette[3]) == (11, (128, 64, 128))


def test_encode_keeps_classes_and_ignored() -> None:
    encoded = LabelSpace.from_names(["a", "b"]).encode(np.array([[0, 1], [255, 1]], np.uint8))
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[0, 1], [255, 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_encode_maps_raw_ids_of_any_integer_type(dtype: type[np.integer]) -> None:
    assert CAMVID.encode(np.array([[0, 10, 11]], dtype)).tolist() == [[0, 10, 255]]


def test_encode_maps_raw_ids_beyond_8_bits() -> None:
    labels = LabelSpace(("a", "b"), voc_palette(2), raw_ids=((7, 0), (33000, 1)))
    assert labels.encode(np.array([[7, 33000]], np.uint16)).tolist() == [[0, 1]]
    with pytest.raises(DataError, match=r"33001 \(1 px\)"):
        labels.encode(np.array([[7, 33001]], np.uint16))


def test_encode_refuses_values_outside_and_counts_them() -> None:
    labels = LabelSpace.from_names(["a", "b", "c"])
    with pytest.raises(DataError, match=r"value 3 \(2 px\), 200 \(1 px\) is no class.*0 to 2.*255 is ignored"):
        labels.encode(np.array([[0, 3, 3, 200, 255]], np.uint8))
    with pytest.raises(DataError, match=r"value -2 \(1 px\), -1 \(1 px\)"):
        labels.encode(np.array([[0, -1, -2]], np.int32))
    with pytest.raises(DataError, match="70000"):
        labels.encode(np.array([[0, 70000]], np.int32))


def test_encode_with_raw_ids_refuses_what_no_pair_names() -> None:
    with pytest.raises(DataError, match="value 255"):
        CAMVID.encode(np.array([[1, 255]], np.uint8))


def test_encode_explains_binary_pictures() -> None:
    with pytest.raises(DataError, match="write 1 in place of 255"):
        CAMVID.encode(np.array([[0, 255]], np.uint8))


def test_dict_round_trip_through_json() -> None:
    assert LabelSpace.from_dict(json.loads(json.dumps(CAMVID.to_dict()))) == CAMVID


@pytest.mark.parametrize(
    "change",
    [{"names": "road"}, {"names": [1] * 11}, {"palette": [[1, 2]]}, {"ignore_index": True}, {"raw_ids": [[1]]}],
)
def test_from_dict_refuses_other_content(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="label space"):
        LabelSpace.from_dict({**CAMVID.to_dict(), **change})


def test_from_dict_refuses_a_missing_key() -> None:
    with pytest.raises(DataError, match="palette"):
        LabelSpace.from_dict({"names": ["a"], "ignore_index": 255, "raw_ids": []})


def test_classes_of_whole_images_are_of_any_number_and_have_no_colors() -> None:
    labels = LabelSpace.of_images([f"class {index}" for index in range(1000)])
    assert (labels.num_classes, labels.palette, labels.multi_label) == (1000, (), False)
    several = LabelSpace.of_images(["a", "b"], multi_label=True)
    for kind in (labels, several):
        assert LabelSpace.from_dict(json.loads(json.dumps(kind.to_dict()))) == kind
    assert "whole_images" not in CAMVID.to_dict()  # segmenters' checkpoints stay as they were
    for names, message in ((["a", "a"], "named twice: a"), ([], "none of them")):
        with pytest.raises(ConfigError, match=message):
            LabelSpace.of_images(names)


@pytest.mark.parametrize(
    ("names", "palette", "ignore_index", "raw_ids", "message"),
    [
        ((), (), 255, (), "0 of them"),
        (("a", "a"), voc_palette(2), 255, (), "named twice: a"),
        (("a",), (), 255, (), "1 names but 0 colours"),
        (("a",), ((0, 0, 256),), 255, (), "outside 0 to 255"),
        (("a", "b"), voc_palette(2), 1, (), "ignore_index 1"),
        (("a",), voc_palette(1), 255, ((3, 4),), "3: 4"),
    ],
)
def test_contradictions_are_refused(
    names: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...],
    ignore_index: int,
    raw_ids: tuple[tuple[int, int], ...],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelSpace(names, palette, ignore_index, raw_ids)
