"""The gallery's pictures as text inside the page: photographs as WebP, masks as lossless palette PNGs."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.labels import LabelSpace

MAX_SIDE = 960
"""Longer side of a picture in the page, in pixels; larger ones are made smaller."""
MAX_BYTES = 300_000
"""What the four layers of one image may take in the page, in characters; they shrink until they do."""

_MIN_SIDE = 64
_QUALITY = 82  # of WebP: no blocks to be seen, at a tenth of the PNG
_RIGHT, _WRONG, _IGNORED = range(3)
_ERROR_COLORS = (0, 0, 0, 230, 60, 20, 128, 128, 128)
_ERROR_ALPHAS = bytes((0, 255, 150))


@dataclass(frozen=True)
class Example:
    """One image with what is true and what was predicted.

    Args:
        image: as people look at it, 8-bit RGB.
        truth: class indices or the ignored value.
        prediction: class indices.

    Shape: image (H, W, 3), truth and prediction (H, W); of a multi-label data set (K, H, W) of 0 and 1.
    """

    image: Array8
    truth: Array8
    prediction: Array8


@dataclass(frozen=True)
class Layers:
    """One image's pictures as data URIs, all of one size.

    Args:
        image: the photograph.
        truth: the classes' colours, nothing where ignored or without a class.
        prediction: the classes' colours.
        errors: red where prediction and truth differ, gray where ignored, nothing where they agree.
    """

    image: str
    truth: str
    prediction: str
    errors: str
    width: int
    height: int

    @property
    def size(self) -> int:
        """Characters in the page."""
        return sum(map(len, (self.image, self.truth, self.prediction, self.errors)))


def encode_layers(example: Example, labels: LabelSpace) -> Layers:
    """Encode one image's pictures within `MAX_SIDE` and `MAX_BYTES`.

    Errors are found at the original size; then every layer shrinks, masks to the nearest pixel's class.
    """
    largest = max(example.truth.shape[-2:])
    side = min(MAX_SIDE, largest)
    layers = _encode(example, labels, side / largest)
    while layers.size > MAX_BYTES and side > _MIN_SIDE:
        side = max(_MIN_SIDE, math.floor(0.95 * side * math.sqrt(MAX_BYTES / layers.size)))
        layers = _encode(example, labels, side / largest)
    return layers


def error_map(truth: Array8, prediction: Array8, ignore_index: int) -> Array8:
    """0 where the prediction is right, 1 where it is wrong, 2 where the truth is ignored.

    With a mask for each class, a pixel is wrong where one of those that count is, and ignored where none counts.

    Shape: truth and prediction (H, W) or (K, H, W) to (H, W).

    >>> error_map(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 0]], np.uint8), 255)
    array([[0, 1, 2]], dtype=uint8)
    """
    counted, axes = truth != ignore_index, tuple(range(truth.ndim - 2))
    wrong = ((truth != prediction) & counted).any(axes)
    errors = np.where(wrong, np.uint8(_WRONG), np.uint8(_RIGHT))
    errors[~counted.any(axes)] = _IGNORED
    return errors


def _encode(example: Example, labels: LabelSpace, scale: float) -> Layers:
    height, width = example.truth.shape[-2:]
    size = max(1, round(scale * width)), max(1, round(scale * height))
    errors = Image.fromarray(error_map(example.truth, example.prediction, labels.ignore_index))
    errors.putpalette(_ERROR_COLORS)
    errors.info["transparency"] = _ERROR_ALPHAS
    return Layers(
        image=photograph(example.image, size),
        truth=_png(labels.coding.picture(example.truth), size),
        prediction=_png(labels.coding.picture(example.prediction), size),
        errors=_png(errors, size),
        width=size[0],
        height=size[1],
    )


def photograph(image: Array8, size: tuple[int, int]) -> str:
    """A picture as WebP in a data URI; `size` is (width, height)."""
    encoded = io.BytesIO()
    Image.fromarray(image).resize(size, Image.Resampling.LANCZOS).save(encoded, format="WEBP", quality=_QUALITY)
    return _data_uri("image/webp", encoded)


def _png(picture: Image.Image, size: tuple[int, int]) -> str:
    encoded = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(encoded, format="PNG", optimize=True)
    return _data_uri("image/png", encoded)


def _data_uri(kind: str, encoded: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
