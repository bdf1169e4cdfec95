"""What a network says of one image."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.data.reading.images import Array8, write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.inference.polygons import feature_collection

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Args:
        image: as people look at it: upright 8-bit RGB, (H, W, 3).
        mask: class indices, (H, W); multi-label: 0 and 1 of each class, (K, H, W). `labels.ignore_index`
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
        return self.labels.coding.entropy(self.probabilities)

    @property
    def pixels(self) -> list[int]:
        """How many pixels each class has."""
        return self.labels.coding.pixels(self.mask).tolist()

    def polygons(self) -> dict[str, Any]:
        """The outlines of the classes' regions as GeoJSON (`feature_collection`), in pixels."""
        return feature_collection(self.mask, self.labels)

    def colors(self) -> Array8:
        """The mask in its classes' colours, uint8 (H, W, 3)."""
        return self.labels.coding.paint(self.mask)

    def overlay(self, alpha: float = 0.5) -> Array8:
        """The mask's colours over the image, uint8 (H, W, 3); `alpha` is the colours' share, 0 to 1."""
        return self.labels.coding.overlay(self.image, self.mask, alpha)

    def save(self, path: str | Path) -> None:
        """Write the mask as an 8-bit PNG with the data set's palette.

        Multi-label: `path` is a folder, which gets a PNG of 0 and 255 for each class.
        """
        coding = self.labels.coding
        coding.write(self.mask, [Path(path, f"{name}.png") for name in coding.parts] or [Path(path)])

    def save_overlay(self, path: str | Path) -> None:
        """Write the overlay as an RGB image."""
        write_image(Path(path), self.overlay())
