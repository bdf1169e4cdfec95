"""Masks in their classes' colours, alone and over their pictures."""

import numpy as np
import numpy.typing as npt

from segzoo.data.images import Array8
from segzoo.data.labels import LabelSpace


def overlay(image: Array8, mask: npt.NDArray[np.integer], labels: LabelSpace, alpha: float = 0.5) -> Array8:
    """Lay the classes' colours over a picture; ignored pixels stay as they are.

    Args:
        image: the picture.
        mask: class indices, or planes of classes, which mix their colours where they overlap.
        labels: whose palette to use.
        alpha: weight of the colours, 0 to 1.

    Shape: image (H, W, 3) and mask (H, W), or (K, H, W), to (H, W, 3).
    """
    if labels.multi_label:
        colors, weight = _mixed_colors(mask, labels), alpha * (mask == 1).any(0)[..., None].astype(np.float32)
        return np.rint(image * (1 - weight) + colors * weight).astype(np.uint8)
    colors = np.array(labels.flat_palette(), dtype=np.float32).reshape(256, 3)
    weights = np.full((256, 1), alpha, dtype=np.float32)
    weights[labels.ignore_index] = 0
    weight = weights[mask]
    return np.rint(image * (1 - weight) + colors[mask] * weight).astype(np.uint8)


def paint(mask: npt.NDArray[np.integer], labels: LabelSpace) -> Array8:
    """A mask in its classes' colours; black where planes show no class.

    Shape: (H, W), or (K, H, W) with planes of classes, to (H, W, 3).
    """
    if labels.multi_label:
        return np.rint(_mixed_colors(mask, labels)).astype(np.uint8)
    return np.array(labels.flat_palette(), dtype=np.uint8).reshape(256, 3)[mask]


def _mixed_colors(planes: npt.NDArray[np.integer], labels: LabelSpace) -> npt.NDArray[np.float32]:
    """The mean colour of the classes that each pixel has; black where it has none."""
    present = (planes == 1).astype(np.float32)
    mixed = np.tensordot(present, np.array(labels.palette, np.float32), axes=(0, 0))
    return np.asarray(mixed / np.maximum(present.sum(0), 1)[..., None], dtype=np.float32)
