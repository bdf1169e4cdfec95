"""What an evaluation says: scores of the whole split, of each class, and of each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segzoo.config.schema import RunConfig
from segzoo.data.labels import LabelSpace
from segzoo.tasks.confusion import Scores

Shares = tuple[float | None, ...]
"""One share of 1 for each class; None where there is nothing to take a share of."""


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
class ClassScores:
    """What a confusion matrix says beyond IoU.

    Args:
        recall: of each class: share of its true pixels that were found, also called class accuracy. None where the
            truth has none.
        precision: of each class: share of the pixels predicted as it that are right. None where none was.
        dice: of each class: 2·hits / (true + predicted pixels), the harmonic mean of the two above.
        mean_accuracy: mean of the recalls that there are.
        mean_dice: mean of the Dice scores that there are.
        frequency_weighted_iou: mean of IoU, each class weighing as much as it has true pixels.
    """

    recall: Shares
    precision: Shares
    dice: Shares
    mean_accuracy: float | None
    mean_dice: float | None
    frequency_weighted_iou: float | None


@dataclass(frozen=True)
class BoundaryScores:
    """How well outlines are met (`segzoo.evaluation.boundary` defines both).

    Args:
        iou: boundary IoU of each class.
        f_score: boundary F-score of each class.
        mean_iou: mean of the first that there are.
        mean_f_score: mean of the second that there are.
    """

    iou: Shares
    f_score: Shares
    mean_iou: float | None
    mean_f_score: float | None


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
class CategoryScores:
    """IoU of groups of classes, as Cityscapes' scripts have it.

    Args:
        names: of the categories.
        iou: of each.
        miou: their mean.
    """

    names: tuple[str, ...]
    iou: Shares
    miou: float | None


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
        scores: mIoU, pixel accuracy, IoU of each class.
        classes: what else the confusion matrix says.
        matrix: int64 counts, as `MaskCoding.count` gives them.
        labels: the classes.
        images: how many.
        output: folder with metrics.json, per_image.csv and counts.npz.
        per_image: one for each image, in the split's order.
        interval: of mIoU; None where fewer than two images count.
        boundary: None unless asked for.
        categories: None for other data sets than Cityscapes.
        config: the run's configuration with the changes of this evaluation.
        protocol: how it was measured.
        command: the command line that asked for it; None from Python.
    """

    scores: Scores
    classes: ClassScores
    matrix: Tensor
    labels: LabelSpace
    images: int
    output: Path
    per_image: tuple[ImageScore, ...]
    interval: Interval | None
    boundary: BoundaryScores | None
    categories: CategoryScores | None
    config: RunConfig
    protocol: Protocol
    command: str | None

    def worst(self, count: int) -> Sequence[ImageScore]:
        """The images with the lowest mIoU, the worst first; the earlier one where two are equal."""
        judged = [(image.miou, image) for image in self.per_image if image.miou is not None]
        return [image for _, image in sorted(judged, key=lambda pair: (pair[0], pair[1].index))[:count]]
