"""Masks in colours."""

import numpy as np

from segzoo.data.labels import LabelSpace
from segzoo.data.paint import overlay, paint


def test_overlay_mixes_colours_and_leaves_ignored_pixels() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    labels = LabelSpace(("a", "b"), ((200, 0, 100), (0, 0, 0)))
    mixed = overlay(image, np.array([[0, 1, 255]], np.uint8), labels, alpha=0.25)
    assert mixed.tolist() == [[[125, 75, 100], [75, 75, 75], [100, 100, 100]]]


def test_classes_that_overlap_mix_their_colours() -> None:
    labels = LabelSpace(("a", "b"), ((200, 0, 0), (0, 100, 0)), multi_label=True)
    mask = np.array([[[1, 1, 0, 255]], [[0, 1, 0, 0]]], np.uint8)
    assert paint(mask, labels).tolist() == [[[200, 0, 0], [100, 50, 0], [0, 0, 0], [0, 0, 0]]]
    white = np.full((1, 4, 3), 255, np.uint8)
    assert overlay(white, mask, labels, alpha=1).tolist() == [[[200, 0, 0], [100, 50, 0], [255] * 3, [255] * 3]]
