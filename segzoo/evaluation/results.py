"""What an evaluation says of the whole split, of each class and of each image: as objects, tables and files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from segzoo.config.classification import AnyRunConfig, ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.datasets.spec import input_folders
from segzoo.data.reading.labels import LabelSpace
from segzoo.escapes import csv_line
from segzoo.evaluation.counts import Interval
from segzoo.files import check_outputs, make_output, write_atomically
from segzoo.tasks.confusion import Scores
from segzoo.tasks.metrics import TASK_METRICS, Measured, Shares, Values, percent

METRICS = "metrics.json"
PER_IMAGE = "per_image.csv"
COUNTS = "counts.npz"
REPORT = "report.html"
PLOTS = ("plots/per_class_iou.png", "plots/confusion.png", "plots/curves.png")


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
class Protocol:
    """How a segmenter was measured; two evaluations compare only where these agree.

    Args:
        dataset: `data.name`.
        weights: "averaged", "raw", or "trained" where the run kept no average.
        output_stride: of the network as it was evaluated.
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
        weights: as of a segmenter.
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


@dataclass(frozen=True)
class Measurement(ABC):
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
    per_image: tuple[Any, ...]
    config: AnyRunConfig
    protocol: Any
    command: str | None

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.measured.labels

    @property
    def images(self) -> int:
        """How many were measured."""
        return len(self.per_image)

    def worst(self, count: int) -> Sequence[Any]:
        """The images of the lowest quality, the worst first; the earlier one where two are equal."""
        judged = [(image.quality, image) for image in self.per_image if image.quality is not None]
        return [image for _, image in sorted(judged, key=lambda pair: (pair[0], pair[1].index))[:count]]

    def metrics_tree(self) -> dict[str, Any]:
        """The metrics as metrics.json has them: shares of 1, and null where there is nothing to judge."""
        return self.measured.tree()

    def facts(self) -> Iterator[tuple[str, str]]:
        """The numbers of the whole split, with their titles."""
        for metric, value in self.measured.numbers():
            yield metric.title, metric.text(value)

    def tables(self, *, worst: int) -> list[Table]:
        """Everything to print: the classes and other rows, the whole split, so many of the worst images."""
        most = TASK_METRICS[self.config.task].most_rows
        rows = [] if most is not None and len(self.labels.names) > most else _row_tables(self.measured)
        return [*rows, text_table(("score", "value"), self.facts()), self._worst_table(worst)]

    def write(self) -> None:
        """Write metrics.json, for programs, and per_image.csv, a row for each image in the split's order."""
        content = {
            **self.metrics_tree(),
            "confusion_matrix": self.matrix.tolist(),
            "images": self.images,
            **self.protocol.tree(),
            "torch": str(torch.__version__),
        }
        head, rows = self._image_rows()
        texts = {PER_IMAGE: "".join(map(csv_line, (head, *rows))), METRICS: json.dumps(content, indent=2) + "\n"}
        for name, text in texts.items():
            # Names of files may be no text in any encoding.
            write_atomically(self.output / name, text.encode(errors="backslashreplace"))

    @abstractmethod
    def _worst_table(self, count: int) -> Table:
        """So many of the worst images."""

    @abstractmethod
    def _image_rows(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """Head and rows of per_image.csv; None becomes an empty cell."""


@dataclass(frozen=True)
class Evaluation(Measurement):
    """What was measured of a segmenter.

    Args:
        interval: of mIoU; None where fewer than two images count.
    """

    per_image: tuple[ImageScore, ...]
    protocol: Protocol
    interval: Interval | None

    @property
    def scores(self) -> Scores:
        """mIoU, pixel accuracy, IoU of each class."""
        return Scores.from_matrix(self.matrix)

    def metrics_tree(self) -> dict[str, Any]:
        """As of every task, with the interval behind mIoU."""
        found: dict[str, Any] = {}
        for name, value in super().metrics_tree().items():
            found[name] = value
            if name == "miou":
                found["miou_interval"] = asdict(self.interval) if self.interval else None
        return found

    def facts(self) -> Iterator[tuple[str, str]]:
        """As of every task, with the interval behind mIoU."""
        for metric, value in self.measured.numbers():
            yield metric.title, metric.text(value)
            if metric.name == "miou" and self.interval:
                ends = f"{percent(self.interval.low)} to {percent(self.interval.high)}"
                yield f"{self.interval.confidence:.0%} interval of it", ends

    def _worst_table(self, count: int) -> Table:
        rows = [(image.id, percent(image.miou), percent(image.pixel_accuracy)) for image in self.worst(count)]
        return text_table(("worst images", "mIoU", "pixel accuracy"), rows)

    def _image_rows(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        head = ["index", "id", "pixels", "miou", "pixel_accuracy", *(f"iou/{name}" for name in self.labels.names)]
        rows = [(one.index, one.id, one.pixels, one.miou, one.pixel_accuracy, *one.iou) for one in self.per_image]
        return head, rows


@dataclass(frozen=True)
class ClassEvaluation(Measurement):
    """What was measured of a classifier."""

    per_image: tuple[ClassifiedImage, ...]
    protocol: ClassProtocol

    @property
    def scores(self) -> Values:
        """The value of each metric by its name: `top1`, `map`."""
        return self.measured.values

    def _worst_table(self, count: int) -> Table:
        head = ("worst images", "truth", "its probability", "predicted", "its probability")
        rows = [
            (one.id, ", ".join(one.truth), percent(one.truth_probability), one.predicted, percent(one.probability))
            for one in self.worst(count)
        ]
        return text_table(head, rows, words=("truth", "predicted"))

    def _image_rows(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        rows = [{**vars(image), "truth": ";".join(image.truth)} for image in self.per_image]
        return list(ClassifiedImage.__dataclass_fields__), [list(row.values()) for row in rows]


def check_results(folder: Path, data: DataConfig | ClassificationDataConfig, *, report: bool, overwrite: bool) -> None:
    """Make the folder of an evaluation before hours of computing, or refuse it.

    Raises:
        ConfigError: it holds an evaluation already, lies in the data set, or cannot be written to.
    """
    names = (METRICS, PER_IMAGE, COUNTS, REPORT, *(PLOTS if report else ()))
    check_outputs([folder / name for name in names], overwrite=overwrite, inputs=input_folders(data))
    make_output(folder)


def _row_tables(measured: Measured) -> list[Table]:
    """The metrics that have a number for each class, and those of other rows."""
    found = []
    for title, metrics in measured.columns().items():
        columns = [map(metric.text, measured.each(metric.name)) for metric in metrics]
        rows = zip(measured.by_row(metrics[0]), *columns, strict=True)
        found.append(text_table((title, *(metric.title for metric in metrics)), rows))
    return found


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ()) -> Table:
    """A table whose first column, and those of words, stand left, and the others right."""
    table = Table(*head)
    for column in table.columns[1:]:
        column.justify = "left" if column.header in words else "right"
    for row in rows:
        table.add_row(*row)
    return table
