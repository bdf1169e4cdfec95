"""Activation maps over pictures."""

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.data.classification.views import Window
from segzoo.data.images import Array8

_STRENGTH = 0.5  # of the colours over the picture
_UNSEEN = 0.4  # brightness of what the network did not see


def heat_overlay(picture: Array8, activation: npt.NDArray[np.float32], window: Window) -> Array8:
    """Colours from dark (nothing) to bright (most) over the window that the network saw, the rest darkened.

    Only places that speak for the class are coloured: negative values count as nothing.

    Args:
        picture: the whole image.
        activation: a coarse map of the window.
        window: which part of the image it is of.

    Shape: picture (H, W, 3), activation (h, w) to (H, W, 3).
    """
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    heat = cv2.resize(_shares(activation), (window.width, window.height), interpolation=cv2.INTER_LINEAR)
    # OpenCV rounds to bytes as it goes; NumPy's arithmetic would take 50 bytes a pixel.
    colors = cv2.applyColorMap(cv2.convertScaleAbs(heat, alpha=255), cv2.COLORMAP_INFERNO)
    colors = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)
    shown = cv2.convertScaleAbs(picture, alpha=_UNSEEN)
    shown[rows, columns] = cv2.addWeighted(picture[rows, columns], 1 - _STRENGTH, colors, _STRENGTH, 0)
    return shown


def _shares(activation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of the largest value, from 0 to 1."""
    positive = np.maximum(activation, 0)
    largest = positive.max(initial=0)
    return positive / largest if largest > 0 else positive
