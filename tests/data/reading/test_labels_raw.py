"""LabelSpace with raw ids, colours, ignored and merged classes, against plain loops over pixels."""

import json

import numpy as np
import pytest

from segzoo.data.reading.labels import LabelSpace, color_number, voc_palette
from segzoo.errors import ConfigError, DataError

NAMES = ("sky", "road", "car", "bus", "tree")
COLORS = ((70, 130, 180), (128, 64, 128), (0, 0, 142), (0, 60, 100), (107, 142, 35))
RAW = LabelSpace(NAMES, COLORS, raw_ids=((7, 0), (8, 1), (26, 2), (28, 3), (29, 3), (21, 4), (0, 255), (3, 255)))
COLORED = LabelSpace(NAMES, COLORS, raw_ids=tuple((color_number(c), i) for i, c in enumerate(COLORS)), raw_colors=True)


def draw(values: list[int], shape: tuple[int, int] = (9, 11)) -> np.ndarray:
    return np.random.default_rng(0).choice(values, shape)


def by_loop(mask: np.ndarray, meaning: dict[int, int]) -> np.ndarray:
    """Each pixel looked up on its own."""
    result = np.zeros(mask.shape, np.uint8)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            result[row, column] = meaning[int(mask[row, column])]
    return result


def regrouped_by_hand(names: list[str], ignored: set[str], merged: dict[str, list[str]]) -> tuple[list[str], list[int]]:
    """Names that remain, and the new index of each old one, written down class by class."""
    remaining: list[str] = []
    indices = []
    for name in names:
        new = next((target for target, members in merged.items() if name in members), name)
        if name in ignored:
            indices.append(255)
            continue
        if new not in remaining:
            remaining.append(new)
        indices.append(remaining.index(new))
    return remaining, indices


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_raw_ids_many_to_one(dtype: type[np.integer]) -> None:
    mask = draw([raw for raw, _ in RAW.raw_ids]).astype(dtype)
    np.testing.assert_array_equal(RAW.encode(mask), by_loop(mask, dict(RAW.raw_ids)))


def test_colors_are_looked_up_as_numbers() -> None:
    mask = draw([raw for raw, _ in COLORED.raw_ids]).astype(np.uint32)
    np.testing.assert_array_equal(COLORED.encode(mask), by_loop(mask, dict(COLORED.raw_ids)))
    assert color_number((1, 2, 3)) == 1 * 65536 + 2 * 256 + 3


def test_white_and_black_are_colors_too() -> None:
    labels = LabelSpace(("a", "b"), voc_palette(2), raw_ids=((0, 0), (0xFFFFFF, 1)), raw_colors=True)
    assert labels.encode(np.array([[0, 0xFFFFFF]], np.uint32)).tolist() == [[0, 1]]
    with pytest.raises(DataError, match=r"color \[255, 255, 254\] \(1 px\)"):
        labels.encode(np.array([[0, 0xFFFFFE]], np.uint32))


def test_unknown_colors_are_shown_as_colors() -> None:
    with pytest.raises(DataError, match=r"color \[1, 2, 3\] \(2 px\) is no class.*5 colours"):
        COLORED.encode(np.array([[color_number((1, 2, 3))] * 2], np.uint32))


@pytest.mark.parametrize("labels", [LabelSpace(NAMES, COLORS), RAW, COLORED])
@pytest.mark.parametrize(
    ("ignored", "merged"),
    [
        (["sky"], {}),
        (["road", "tree"], {}),
        ([], {"vehicle": ["bus", "car"]}),
        ([], {"car": ["car", "bus"]}),
        (["sky"], {"vehicle": ["car", "bus"]}),
        ([], {"last": ["sky", "tree"], "vehicle": ["car", "bus"]}),
    ],
)
def test_regrouped(labels: LabelSpace, ignored: list[str], merged: dict[str, list[str]]) -> None:
    names, indices = regrouped_by_hand(list(NAMES), set(ignored), merged)
    meaning = dict(labels.raw_ids) or {**{index: index for index in range(5)}, 255: 255}
    meaning = {raw: 255 if index == 255 else indices[index] for raw, index in meaning.items()}
    regrouped = labels.regrouped(ignored, merged)
    assert list(regrouped.names) == names
    assert regrouped.palette == tuple(COLORS[indices.index(new)] for new in range(len(names)))
    assert regrouped.raw_colors == labels.raw_colors
    mask = draw(list(meaning)).astype(np.uint32)
    np.testing.assert_array_equal(regrouped.encode(mask), by_loop(mask, meaning))
    assert LabelSpace.from_dict(json.loads(json.dumps(regrouped.to_dict()))) == regrouped


def test_regrouping_twice_is_regrouping_once() -> None:
    once = RAW.regrouped(["sky"], {"vehicle": ["car", "bus"]})
    assert RAW.regrouped(["sky"], {}).regrouped([], {"vehicle": ["car", "bus"]}) == once
    assert once.of_indices().raw_ids == ()


def test_all_wrong_names_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RAW.regrouped(["raod", "car"], {"vehicle": ["car", "bas"], "sky": ["bus"]})
    assert caught.value.problems == [
        "data.ignore_classes: no class 'raod'. Did you mean road?",
        "data.merge_classes.vehicle: no class 'bas'. Did you mean bus?",
        "data: class 'car' is ignored or merged 2 times; once is enough",
        "data.merge_classes.sky: the name of a class that stays; take another, or merge it too",
    ]
    with pytest.raises(ConfigError, match="nothing would be left"):
        RAW.regrouped(NAMES, {})


def test_descriptions_of_before_colors_are_read() -> None:
    plain = RAW.to_dict()
    del plain["raw_colors"]
    assert LabelSpace.from_dict(plain) == RAW


def test_one_value_for_two_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="given to two classes: 7, 9"):
        LabelSpace(("a", "b"), voc_palette(2), raw_ids=((7, 0), (7, 1), (9, 0), (9, 0)))
    with pytest.raises(ConfigError, match=r"given to two classes: \[0, 0, 7\]"):
        LabelSpace(("a", "b"), voc_palette(2), raw_ids=((7, 0), (7, 1)), raw_colors=True)


def test_refusal_of_counted_values() -> None:
    assert RAW.refusal(np.array([0, 7, 28]), np.array([5, 6, 7])) is None
    refusal = RAW.refusal(np.array([0, 9, 28]), np.array([5, 6, 7]))
    assert refusal is not None
    assert refusal.startswith("value 9 (6 px) is no class.")
