"""What an evaluation says: scores of the whole split, of each class, and of each image."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from segzoo.config.classification import AnyRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import Scores
from segzoo.tasks.metrics import Measured, Shares, Values


@dataclass(frozen=True)
class ImageScore:
    """One image, judged alone.

    Args:
        index: its number in the split, from 0.
        id: its name in the split.
        miou: mean IoU of the classes that it or its prediction has; None where all pixels are ignored.
        pixel_accuracy: share of its pixels that are right.
        iou: of each class; None where neither it nor its prediction has the class.
        pixels: how many counted, ignored ones left out.
    """

    index: int
    id: str
    miou: float | None
    pixel_accuracy: float | None
    iou: Shares
    pixels: int

    @property
    def quality(self) -> float | None:
        """What the worst images are found by."""
        return self.miou


@dataclass(frozen=True)
class Interval:
    """Where a score most likely lies for other images of the same kind.

    Args:
        low: lower end.
        high: upper end.
        confidence: share of such intervals that hold the true score, such as 0.95.
        resamples: how often the images were drawn anew.
    """

    low: float
    high: float
    confidence: float
    resamples: int


@dataclass(frozen=True)
class Protocol:
    """How it was measured; two evaluations compare only where these agree.

    Args:
        dataset: `data.name`.
        split: which.
        checkpoint: the file.
        weights: "averaged", "raw", or "trained" where the run kept no average.
        output_stride: of the network as it was evaluated.
        engine: what computed.
        precision: of its numbers.
        tta: test-time augmentation in words; None without.
        tile: side of the tiles in pixels; None for whole images.
        tile_overlap: of neighbouring tiles, as a share of the tile; None for whole images.
    """

    dataset: str
    split: str
    checkpoint: str
    weights: str
    output_stride: int
    engine: str
    precision: str
    tta: str | None
    tile: int | None
    tile_overlap: float | None

    def tree(self) -> dict[str, Any]:
        """As metrics.json has it."""
        found = asdict(self)
        found["engine_precision"] = found.pop("precision")  # the classes' precision has the name
        return found


@dataclass(frozen=True)
class ClassifiedImage:
    """One image that was classified, judged alone.

    Args:
        index: its number in the split, from 0.
        id: its name in the split.
        truth: its classes.
        predicted: the most probable class.
        probability: of that class.
        truth_probability: of its own class; of several, of the most probable; None where it has none.
        rank: of that class among all, 1 for the most probable.
    """

    index: int
    id: str
    truth: tuple[str, ...]
    predicted: str
    probability: float
    truth_probability: float | None
    rank: int | None

    @property
    def quality(self) -> float | None:
        """What the worst images are found by."""
        return self.truth_probability


@dataclass(frozen=True)
class ClassProtocol:
    """How a classifier was measured; two evaluations compare only where these agree.

    Args:
        dataset: `data.name`.
        split: which.
        checkpoint: the file.
        weights: "averaged", "raw", or "trained" where the run kept no average.
        image_size: height and width of what the network saw.
        center_crop: share of the image that it saw.
        class_weights: of each class in MAP@100; None where it is how many images have it.
        engine: what computed, and in which precision; None for torch in float32.
    """

    dataset: str
    split: str
    checkpoint: str
    weights: str
    image_size: tuple[int, int]
    center_crop: float
    class_weights: tuple[float, ...] | None
    engine: str | None = None

    def tree(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return {name: value for name, value in asdict(self).items() if name != "engine" or value is not None}


Judged = TypeVar("Judged", bound=ImageScore | ClassifiedImage)
How = TypeVar("How", bound=Protocol | ClassProtocol)


@dataclass(frozen=True)
class Measurement(Generic[Judged, How]):
    """What was measured, whatever the task.

    Args:
        measured: what the metrics say.
        matrix: int64 counts, as `MaskCoding.count` gives them.
        output: folder of the files.
        per_image: one for each image, in the split's order.
        config: the run's configuration with the changes of this evaluation.
        protocol: how it was measured.
        command: the command line that asked for it; None from Python.
    """

    measured: Measured
    matrix: Tensor
    output: Path
    per_image: tuple[Judged, ...]
    config: AnyRunConfig
    protocol: How
    command: str | None

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.measured.labels

    @property
    def images(self) -> int:
        """How many were measured."""
        return len(self.per_image)

    def worst(self, count: int) -> Sequence[Judged]:
        """The images of the lowest quality, the worst first; the earlier one where two are equal."""
        judged = [(image.quality, image) for image in self.per_image if image.quality is not None]
        return [image for _, image in sorted(judged, key=lambda pair: (pair[0], pair[1].index))[:count]]


@dataclass(frozen=True)
class Evaluation(Measurement[ImageScore, Protocol]):
    """What was measured of a segmenter.

    Args:
        interval: of mIoU; None where fewer than two images count.
    """

    interval: Interval | None

    @property
    def scores(self) -> Scores:
        """mIoU, pixel accuracy, IoU of each class."""
        return Scores.from_matrix(self.matrix)


@dataclass(frozen=True)
class ClassEvaluation(Measurement[ClassifiedImage, ClassProtocol]):
    """What was measured of a classifier."""

    @property
    def scores(self) -> Values:
        """The value of each metric by its name: `top1`, `map`."""
        return self.measured.values
