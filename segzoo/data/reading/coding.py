"""How masks hold classes: one class index for each pixel, or a mask of yes and no for each class.

`LabelSpace.coding` is one of the two. Whatever differs between them, from a network's scores to files, is a method of
both here, so that nobody else asks which one it is. Torch is not imported, because reading files needs none.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.images import write_image
from segzoo.data.reading.masks import read_mask, write_mask
from segzoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Color = tuple[int, int, int]
Mask = npt.NDArray[np.integer]

IGNORED_COLOR: Color = (224, 224, 192)  # what VOC paints its void border with

_UNSAFE = re.compile(r"[^\w. -]+")
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class MaskCoding(ABC):
    """What a mask of K classes looks like, and all that depends on it.

    Scores and counts may be those of whole images, too, which have no height and width.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int

    exclusive: ClassVar[bool]
    """Whether a pixel has one class at most."""

    @property
    @abstractmethod
    def table_shape(self) -> tuple[int, ...]:
        """Shape of a table of counts."""

    @property
    def axes(self) -> tuple[int, ...]:
        """Shape of a mask without its height and width."""
        return self.table_shape[:-2]

    @property
    def num_values(self) -> int:
        """How many values a mask has beside `ignore_index`: they are 0 to one less than this."""
        return self.table_shape[-1]

    @abstractmethod
    def predict(self, scores: "Tensor") -> "Tensor":
        """What scores, logits or log-odds, stand for. Shape: (N, K, ...) to what `count` takes."""

    def predict_mask(self, scores: "Tensor") -> "Tensor":
        """The masks that scores stand for. Shape: (N, K, H, W) to uint8 (N, *axes, H, W)."""
        return self.predict(scores).byte()

    @abstractmethod
    def probabilities(self, scores: "Tensor") -> "Tensor":
        """The probability of every class. Shape: (N, K, ...), kept."""

    @abstractmethod
    def scores(self, probabilities: "Tensor") -> "Tensor":
        """Scores that have these probabilities. Shape: (N, K, ...), kept."""

    @abstractmethod
    def mask_target(self, mask: "Tensor") -> "Tensor":
        """Masks as losses take them."""

    @abstractmethod
    def image_target(self, classes: Sequence[int]) -> npt.NDArray[np.generic]:
        """The classes of a whole image as losses take them."""

    @abstractmethod
    def count(self, prediction: "Tensor", target: "Tensor") -> "Tensor":
        """Count by truth and prediction what the truth does not ignore.

        Shape: integers (N, *axes, ...), twice; result int64 (*table_shape).

        Raises:
            ValueError: shapes differ, or a value that no mask has.
        """

    @abstractmethod
    def pixels(self, mask: Array8) -> npt.NDArray[np.int64]:
        """How many pixels of a mask each class has. Shape: (K,)."""

    @abstractmethod
    def index_maps(self, mask: Array8) -> list[Array8]:
        """A mask as maps of class indices (H, W): one, or one for each class where they overlap."""

    @abstractmethod
    def entropy(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """How undecided probabilities are: 0, certain, to 1, all classes alike. Shape: (K, H, W) to (H, W)."""

    @abstractmethod
    def colors(self, mask: Mask, ignored: Color = IGNORED_COLOR) -> npt.NDArray[np.float32]:
        """The colour of each pixel, 0 to 255. Shape: (H, W, 3)."""

    @abstractmethod
    def shown(self, mask: Mask) -> npt.NDArray[np.bool_]:
        """Which pixels have something to see. Shape: (H, W)."""

    @abstractmethod
    def picture(self, mask: Array8) -> Image.Image:
        """The colours as a picture to be saved as PNG, which is transparent where there is nothing to see."""

    def paint(self, mask: Mask, ignored: Color = IGNORED_COLOR) -> Array8:
        """The colours in 8 bits. Shape: (H, W, 3)."""
        return np.rint(self.colors(mask, ignored)).astype(np.uint8)

    def overlay(self, image: Array8, mask: Mask, alpha: float = 0.5) -> Array8:
        """Lay the colours over a picture (H, W, 3), with a weight of 0 to 1; where nothing is shown it stays."""
        weight = alpha * self.shown(mask)[..., None].astype(np.float32)
        return np.rint(image * (1 - weight) + self.colors(mask) * weight).astype(np.uint8)

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Names of the files that a mask becomes; empty where it is a single one."""

    @abstractmethod
    def write(self, mask: Array8, files: Sequence[Path]) -> None:
        """Write a mask into one PNG, or one for each of `parts`."""

    @abstractmethod
    def read(self, files: Sequence[Path], size: tuple[int, ...]) -> Array8:
        """Read what `write` wrote.

        Raises:
            DataError: a file is missing, damaged, or of another size than the expected height and width.
        """

    @cached_property
    def file_names(self) -> tuple[str, ...]:
        """The classes' names as far as files may have them; with their number in front where two would be alike."""
        safe = tuple(_UNSAFE.sub("_", name).strip(". ")[:60] or "_" for name in self.names)
        if len({name.casefold() for name in safe}) == len(safe):
            return safe
        return tuple(f"{index:02d}_{name}" for index, name in enumerate(safe))

    def flat_palette(self, ignored: Color = IGNORED_COLOR) -> list[int]:
        """256 colours in a row, as Pillow's `putpalette` takes them."""
        colors: list[Color] = [(0, 0, 0)] * 256
        colors[: len(self.names)] = self.palette
        colors[self.ignore_index] = ignored
        return [channel for color in colors for channel in color]


class IndexMap(MaskCoding):
    """One class for each pixel: a mask holds class indices, (H, W)."""

    exclusive = True

    @property
    def table_shape(self) -> tuple[int, ...]:
        """(K, K): rows are the truth, columns the prediction."""
        return len(self.names), len(self.names)

    def predict(self, scores: "Tensor") -> "Tensor":
        """The class with the highest score, of equal ones the first; int64 (N, ...)."""
        return scores.max(1).indices  # `argmax` takes five times as long on the CPU

    def probabilities(self, scores: "Tensor") -> "Tensor":
        """Softmax."""
        return scores.softmax(1)

    def scores(self, probabilities: "Tensor") -> "Tensor":
        """Logarithms."""
        return probabilities.clamp_min(_TINY).log()

    def mask_target(self, mask: "Tensor") -> "Tensor":
        """Class indices, int64."""
        return mask.long()

    def image_target(self, classes: Sequence[int]) -> npt.NDArray[np.generic]:
        """The class index, int64 ()."""
        return np.array(classes[0])

    def count(self, prediction: "Tensor", target: "Tensor") -> "Tensor":
        """The confusion matrix."""
        return _crossed(prediction, target, len(self.names), self.ignore_index)

    def pixels(self, mask: Array8) -> npt.NDArray[np.int64]:
        """Of each class index."""
        return np.bincount(mask.ravel(), minlength=len(self.names))[: len(self.names)].astype(np.int64)

    def index_maps(self, mask: Array8) -> list[Array8]:
        """The mask itself."""
        return [mask]

    def entropy(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As a share of the largest possible entropy, the logarithm of the number of classes."""
        largest = np.float32(np.log(max(2, len(self.names))))
        return np.clip(_nats(probabilities) / largest, 0, 1, dtype=np.float32)

    def colors(self, mask: Mask, ignored: Color = IGNORED_COLOR) -> npt.NDArray[np.float32]:
        """From the palette."""
        return np.array(self.flat_palette(ignored), np.float32).reshape(256, 3)[mask]

    def shown(self, mask: Mask) -> npt.NDArray[np.bool_]:
        """All that are not ignored."""
        return np.asarray(mask != self.ignore_index)

    def picture(self, mask: Array8) -> Image.Image:
        """With a palette."""
        image = Image.fromarray(mask)
        image.putpalette(self.flat_palette())
        image.info["transparency"] = bytes(0 if value == self.ignore_index else 255 for value in range(256))
        return image

    @property
    def parts(self) -> tuple[str, ...]:
        """None: a mask is one file."""
        return ()

    def write(self, mask: Array8, files: Sequence[Path]) -> None:
        """Class indices with a palette."""
        write_mask(files[0], mask, self.flat_palette())

    def read(self, files: Sequence[Path], size: tuple[int, ...]) -> Array8:
        """Class indices."""
        return _read(files[0], size)


class ClassMasks(MaskCoding):
    """Several classes for a pixel, or none: a mask has 1 where a class is present and 0 where it is not, (K, H, W)."""

    exclusive = False

    @property
    def table_shape(self) -> tuple[int, ...]:
        """(K, 2, 2): for each class, rows are the truth; scikit-learn's `multilabel_confusion_matrix`."""
        return len(self.names), 2, 2

    def predict(self, scores: "Tensor") -> "Tensor":
        """Whether a class is more probable than not; bool (N, K, ...)."""
        return scores > 0

    def probabilities(self, scores: "Tensor") -> "Tensor":
        """A sigmoid of each."""
        return scores.sigmoid()

    def scores(self, probabilities: "Tensor") -> "Tensor":
        """Log-odds."""
        return probabilities.clamp_min(_TINY).log() - (1 - probabilities).clamp_min(_TINY).log()

    def mask_target(self, mask: "Tensor") -> "Tensor":
        """As they are, because eight bytes for each class and pixel are many."""
        return mask

    def image_target(self, classes: Sequence[int]) -> npt.NDArray[np.generic]:
        """1 for each class of the image, 0 for the others; float32 (K,)."""
        target = np.zeros(len(self.names), np.float32)
        target[list(classes)] = 1
        return target

    def count(self, prediction: "Tensor", target: "Tensor") -> "Tensor":
        """A table for each class."""
        _check_shapes(prediction, target)
        tables = target.new_zeros(self.table_shape).long()
        for table, own, truth in zip(tables, prediction.movedim(1, 0), target.movedim(1, 0), strict=True):
            table += _crossed(own, truth, 2, self.ignore_index)
        return tables

    def pixels(self, mask: Array8) -> npt.NDArray[np.int64]:
        """Where a class is present."""
        return np.count_nonzero(mask == 1, axis=(1, 2)).astype(np.int64)

    def index_maps(self, mask: Array8) -> list[Array8]:
        """A class's index where it is present, else the ignored value."""
        return [np.where(own == 1, index, self.ignore_index).astype(np.uint8) for index, own in enumerate(mask)]

    def entropy(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The mean over classes of the entropy between yes and no, in bits."""
        largest = np.float32(len(self.names) * np.log(2))
        return np.clip((_nats(probabilities) + _nats(1 - probabilities)) / largest, 0, 1, dtype=np.float32)

    def colors(self, mask: Mask, ignored: Color = IGNORED_COLOR) -> npt.NDArray[np.float32]:
        """The mean of the classes that a pixel has; black where it has none, ignored or not."""
        present = (mask == 1).astype(np.float32)
        mixed = np.tensordot(present, np.array(self.palette, np.float32), axes=(0, 0))
        return np.asarray(mixed / np.maximum(present.sum(0), 1)[..., None], dtype=np.float32)

    def shown(self, mask: Mask) -> npt.NDArray[np.bool_]:
        """Those with a class."""
        return np.asarray((mask == 1).any(0))

    def picture(self, mask: Array8) -> Image.Image:
        """With mixed colours, which no palette has."""
        return Image.fromarray(np.dstack([self.paint(mask), self.shown(mask) * np.uint8(255)]))

    @property
    def parts(self) -> tuple[str, ...]:
        """One for each class."""
        return self.file_names

    def write(self, mask: Array8, files: Sequence[Path]) -> None:
        """0 and 255."""
        for file, own in zip(files, mask, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_image(file, (own == 1) * np.uint8(255))

    def read(self, files: Sequence[Path], size: tuple[int, ...]) -> Array8:
        """255 as 1."""
        return np.stack([_read(file, size) == 255 for file in files]).astype(np.uint8)


def _crossed(prediction: "Tensor", target: "Tensor", values: int, ignore_index: int) -> "Tensor":
    """How often each truth meets each prediction, int64 (values, values)."""
    _check_shapes(prediction, target)
    counted = target != ignore_index
    truth, predicted = target[counted].long(), prediction[counted].long()
    for name, found in (("target", truth), ("prediction", predicted)):
        if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < values:
            raise ValueError(f"{name} holds values outside 0..{values - 1}")
    return (truth * values + predicted).bincount(minlength=values**2).reshape(values, values)


def _check_shapes(prediction: "Tensor", target: "Tensor") -> None:
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")


def _nats(chances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each pixel's sum over classes of -p log p."""
    logarithms = np.log(chances, out=np.zeros_like(chances), where=chances > 0)
    return np.asarray(-np.einsum("khw,khw->hw", chances, logarithms), dtype=np.float32)


def _read(file: Path, size: tuple[int, ...]) -> Array8:
    mask = read_mask(file)
    if mask.shape != size:
        raise DataError(f"{file}: {mask.shape[0]}x{mask.shape[1]} pixels, not {size[0]}x{size[1]}")
    return mask.astype(np.uint8)
