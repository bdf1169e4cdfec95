"""What an evaluation says: scores of the whole split, of each class, and of each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segzoo.config.schema import RunConfig
from segzoo.data.labels import LabelSpace
from segzoo.tasks.confusion import Scores
from segzoo.tasks.metrics import Measured, Shares


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


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        measured: what the metrics say.
        matrix: int64 counts, as `MaskCoding.count` gives them.
        images: how many.
        output: folder with metrics.json, per_image.csv and counts.npz.
        per_image: one for each image, in the split's order.
        interval: of mIoU; None where fewer than two images count.
        config: the run's configuration with the changes of this evaluation.
        protocol: how it was measured.
        command: the command line that asked for it; None from Python.
    """

    measured: Measured
    matrix: Tensor
    images: int
    output: Path
    per_image: tuple[ImageScore, ...]
    interval: Interval | None
    config: RunConfig
    protocol: Protocol
    command: str | None

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.measured.labels

    @property
    def scores(self) -> Scores:
        """mIoU, pixel accuracy, IoU of each class."""
        return Scores.from_matrix(self.matrix)

    def worst(self, count: int) -> Sequence[ImageScore]:
        """The images with the lowest mIoU, the worst first; the earlier one where two are equal."""
        judged = [(image.miou, image) for image in self.per_image if image.miou is not None]
        return [image for _, image in sorted(judged, key=lambda pair: (pair[0], pair[1].index))[:count]]
