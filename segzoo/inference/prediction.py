"""What a network says of one image."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.data.images import Array8, write_image, write_mask
from segzoo.data.labels import LabelSpace
from segzoo.data.paint import overlay, paint
from segzoo.inference.polygons import feature_collection

_UNSAFE = re.compile(r"[^\w. -]+")

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Args:
        image: as people look at it: upright 8-bit RGB, (H, W, 3).
        mask: class indices, (H, W); multi-label: 0 and 1 in a plane for each class, (K, H, W). `labels.ignore_index`
            where the image has nothing to see.
        labels: their names and colours.
        compute: gives the probabilities, which are far larger than all the rest and so not kept until asked for.
    """

    image: Array8
    mask: Array8
    labels: LabelSpace
    compute: Callable[[], Probabilities] = field(repr=False, compare=False)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Of every class, float32 (K, H, W); computed when first asked for."""
        return self.compute()

    def without(self, lost: npt.NDArray[np.bool_] | None) -> "Prediction":
        """The same, ignored where there is nothing to see, (H, W); None for nowhere."""
        if lost is None:
            return self
        return replace(self, mask=np.where(lost, np.uint8(self.labels.ignore_index), self.mask))

    @property
    def entropy(self) -> npt.NDArray[np.float32]:
        """How undecided the network is: 0, certain, to 1, all classes alike; float32 (H, W).

        The entropy of the probabilities as a share of the largest possible one, the logarithm of the number of classes.
        Multi-label: the mean over classes of the entropy between yes and no, in bits.
        """
        chances = self.probabilities
        if self.labels.multi_label:
            largest = np.float32(len(chances) * np.log(2))
            return np.clip((_nats(chances) + _nats(1 - chances)) / largest, 0, 1, dtype=np.float32)
        largest = np.float32(np.log(max(2, len(chances))))
        return np.clip(_nats(chances) / largest, 0, 1, dtype=np.float32)

    @property
    def pixels(self) -> list[int]:
        """How many pixels each class has."""
        return pixels_of_classes(self.mask, self.labels).tolist()

    def polygons(self) -> dict[str, Any]:
        """The outlines of the classes' regions as GeoJSON (`feature_collection`), in pixels."""
        return feature_collection(self.mask, self.labels)

    def colors(self) -> Array8:
        """The mask in its classes' colours, uint8 (H, W, 3)."""
        return paint(self.mask, self.labels)

    def overlay(self, alpha: float = 0.5) -> Array8:
        """The mask's colours over the image, uint8 (H, W, 3); `alpha` is the colours' share, 0 to 1."""
        return overlay(self.image, self.mask, self.labels, alpha)

    def save(self, path: str | Path) -> None:
        """Write the mask as an 8-bit PNG with the data set's palette.

        Multi-label: `path` is a folder, which gets a PNG of 0 and 255 for each class (`class_names`).
        """
        if not self.labels.multi_label:
            write_mask(Path(path), self.mask, self.labels.flat_palette())
            return
        Path(path).mkdir(parents=True, exist_ok=True)
        for name, plane in zip(class_names(self.labels), self.mask, strict=True):
            write_image(Path(path, f"{name}.png"), (plane == 1) * np.uint8(255))

    def save_overlay(self, path: str | Path) -> None:
        """Write the overlay as an RGB image."""
        write_image(Path(path), self.overlay())


def pixels_of_classes(mask: Array8, labels: LabelSpace) -> npt.NDArray[np.int64]:
    """How many pixels of a mask each class has, int64 (K,). Shape: as `Prediction.mask`."""
    if labels.multi_label:
        return np.count_nonzero(mask == 1, axis=(1, 2)).astype(np.int64)
    return np.bincount(mask.ravel(), minlength=labels.num_classes)[: labels.num_classes].astype(np.int64)


def class_names(labels: LabelSpace) -> list[str]:
    """The classes' names as far as files may have them; with their number in front where two would be alike.

    >>> class_names(LabelSpace.from_names(["sky", "road/path", "Sky"]))
    ['00_sky', '01_road_path', '02_Sky']
    >>> class_names(LabelSpace.from_names(["sky", "road/path"]))
    ['sky', 'road_path']
    """
    safe = [_UNSAFE.sub("_", name).strip(". ")[:60] or "_" for name in labels.names]
    if len({name.casefold() for name in safe}) == len(safe):
        return safe
    return [f"{index:02d}_{name}" for index, name in enumerate(safe)]


def _nats(chances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each pixel's sum over classes of -p log p."""
    logarithms = np.log(chances, out=np.zeros_like(chances), where=chances > 0)
    return np.asarray(-np.einsum("khw,khw->hw", chances, logarithms), dtype=np.float32)
