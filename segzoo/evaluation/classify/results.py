"""What an evaluation of a classifier says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.labels import LabelSpace
from segzoo.tasks.metrics import Measured, Values


@dataclass(frozen=True)
class ClassifiedImage:
    """One image, judged alone.

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


@dataclass(frozen=True)
class ClassProtocol:
    """How it was measured; two evaluations compare only where these agree.

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


@dataclass(frozen=True)
class ClassEvaluation:
    """What was measured.

    Args:
        measured: what the metrics say.
        matrix: counts of images, as `MaskCoding.count` gives them.
        per_image: one for each image, in the split's order.
        output: folder with metrics.json and per_image.csv.
        config: the run's configuration with the changes of this evaluation.
        protocol: how it was measured.
        command: the command line that asked for it; None from Python.
    """

    measured: Measured
    matrix: Tensor
    per_image: tuple[ClassifiedImage, ...]
    output: Path
    config: ClassificationRunConfig
    protocol: ClassProtocol
    command: str | None

    @property
    def scores(self) -> Values:
        """The value of each metric by its name: `top1`, `map`."""
        return self.measured.values

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.measured.labels

    @property
    def images(self) -> int:
        """How many were measured."""
        return len(self.per_image)

    def worst(self, count: int) -> Sequence[ClassifiedImage]:
        """The images whose class seems least probable, the worst first; the earlier one where two are equal."""
        judged = [(image.truth_probability, image) for image in self.per_image if image.truth_probability is not None]
        return [image for _, image in sorted(judged, key=lambda pair: (pair[0], pair[1].index))[:count]]
