"""What `predict` does with an image, by task: how it is read and predicted, which files it becomes, what is counted."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

from segzoo.checkpoint.read import AnyTrained, load_trained
from segzoo.data.pictures import spread, thumbnail
from segzoo.data.reading.images import write_image
from segzoo.data.reading.pixels import Pixels, dark_range
from segzoo.errors import ConfigError, DataError, SegzooError, did_you_mean, printable
from segzoo.inference.class_predictor import ClassPrediction, ClassPredictor, check_cam
from segzoo.inference.jobs import Content, Job, Listing, Result, check_jobs, is_raster, output_names
from segzoo.inference.outputs import (
    AREAS,
    KINDS,
    RASTER_SUFFIX,
    check_kinds,
    check_raster_kinds,
    output_paths,
    write_outputs,
)
from segzoo.inference.predictor import BasePredictor, Predicted, Prediction, Predictor
from segzoo.inference.raster import segment_raster
from segzoo.inference.record import Record
from segzoo.inference.sinks import (
    AREAS_FILE,
    IMAGE_GRID,
    PREDICTIONS,
    Areas,
    ImageGrid,
    Predictions,
    PredictReport,
    Sink,
)
from segzoo.inference.tile_size import free_memory, memory_per_pixel

logger = logging.getLogger(__name__)

AnyPredictor = BasePredictor[Any]

_LEAST = 64 * 2**10  # bytes that even the smallest image is counted with
_DECODED = 8  # bytes a pixel while a picture is decoded: alpha, 16 bits, the copy in RGB
_RESULTS = 8  # bytes a pixel of the mask, of colours, and of what encodes them
_SURELY_FITS = 4 * 10**6  # pixels for which nobody measures what the network takes


class Head(ABC, Generic[Predicted]):
    """One call of `predict`, as far as the task decides; arguments as there, where None takes the task's own.

    Raises:
        ConfigError: a kind or a number that this task or network has not.
    """

    predictor_type: ClassVar[type[Any]]
    options: ClassVar[tuple[str, ...]]
    """Of the predictor, which others have not."""
    if_large: ClassVar[str]
    """Advice for images beyond `max_pixels`."""
    if_memory_ends: str
    beside: Sequence[str]
    """Names of the files about all images."""
    save: Sequence[str]

    def __init__(
        self, predictor: BasePredictor[Predicted], save: Sequence[str] | None, top: int | None, max_pixels: int
    ) -> None:
        self.predictor = predictor
        self.max_pixels = max_pixels
        self._dark: list[str] = []
        self._choose(save, top)

    @abstractmethod
    def _choose(self, save: Sequence[str] | None, top: int | None) -> None:
        """Check and set what is saved."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it computes, for the record."""
        return self.predictor.settings

    @abstractmethod
    def plan(self, listing: Listing, output: Path) -> list[Job]:
        """A job for each image, in the listing's order, unless outputs would spoil each other or the input."""

    def check_record(self, record: Record) -> None:
        """Refuse to go on with a folder whose outputs would not fit together with the new ones."""
        return

    @abstractmethod
    def sinks(self, record: Record, report: PredictReport, title: str) -> list[Sink]:
        """What writes the files about all images."""

    def read(self, job: Job) -> Pixels | None:
        """What the network sees of an image, None of a raster; in a thread."""
        if job.is_raster:
            return None
        reader = self.predictor.pixels
        try:
            pixels = reader.read(job.file, self.max_pixels)
        except DataError as error:
            height, width = reader.size(job.file)  # raises where that is the fault
            if height * width <= self.max_pixels:
                raise
            raise DataError(f"{'; '.join(error.problems)}; {self.if_large}") from None
        highest = reader.highest_of_16_bits(pixels, reader.kind(job.file))
        if highest and dark_range(highest):
            self._dark.append(job.name)
        return self.predictor.seen(pixels)

    def cost(self, job: Job) -> int:
        """Bytes that an image takes from reading to writing, by its header, in a thread; hardly any of a raster."""
        try:
            height, width = (0, 0) if job.is_raster else self.predictor.pixels.size(job.file)
        except SegzooError:
            return _LEAST
        if height * width > self.max_pixels:
            return _LEAST
        values = 0 if self.predictor.pixels.is_rgb8 else 8 * self.predictor.pixels.channels
        return _LEAST + height * width * (_DECODED + values + _RESULTS + self._bytes_per_pixel(job))

    @abstractmethod
    def _bytes_per_pixel(self, job: Job) -> int:
        """What an image's outputs take beside its picture."""

    def batch_key(self, seen: Pixels) -> object:
        """What images that may run together have in common."""
        return self.predictor.batch_key(seen)

    @abstractmethod
    def predict(self, jobs: Sequence[Job], seen: Sequence[Pixels]) -> list[Predicted]:
        """Predict the images of jobs together."""

    @abstractmethod
    def write(self, job: Job, prediction: Predicted) -> Result:
        """Write a job's files, in a thread; a raster is read, predicted and written here, window by window."""

    def warn_of_dark(self) -> None:
        """Say that the network saw images all but black, which use few of their 16 bits."""
        if self._dark:
            logger.warning(
                "%d 16-bit images use less than a quarter of their range, such as %s: the network saw them all but "
                "black. One that was trained with data.value_range sees more.",
                len(self._dark),
                self._dark[0],
            )


class MaskHead(Head[Prediction]):
    """Masks and pictures of them; an image grid, and a table of areas."""

    predictor: Predictor
    predictor_type = Predictor
    options = ("tta", "tile", "overlap")
    if_large = "--max-pixels raises the limit, and --tile auto keeps the network's memory small"
    if_memory_ends = "--tile auto computes large images by parts, --batch-size 1 one at a time"

    def _choose(self, save: Sequence[str] | None, top: int | None) -> None:
        if top is not None:
            raise ConfigError("--top: this is a segmenter, which has no ranking of classes. Leave it out.")
        self.save = ("mask",) if save is None else save
        check_kinds(self.save)
        self.beside = [*([AREAS_FILE] if AREAS in self.save else []), IMAGE_GRID]

    def plan(self, listing: Listing, output: Path) -> list[Job]:
        """Masks and pictures mirror the tree; rasters, which are read by windows, become masks only."""
        rasters = {image for image in listing.images if is_raster(listing.folder / image)}
        check_raster_kinds(self.save, [printable(image) for image in listing.images if image in rasters])
        shown = {listing.images[index] for index in spread(len(listing.images))} - rasters

        jobs = []
        for image, name in output_names(listing, self.predictor.pixels.suffixes).items():
            target = name.with_suffix(RASTER_SUFFIX) if image in rasters else name
            targets = output_paths(output, target, self.save, self.predictor.labels)
            jobs.append(Job(image, listing.folder / image, targets, image in rasters, is_shown=image in shown))
        check_jobs(jobs)
        return jobs

    def sinks(self, record: Record, report: PredictReport, title: str) -> list[Sink]:
        """The areas, which the summary has in any case, and the image grid."""
        table = record.output / AREAS_FILE if AREAS in self.save else None
        return [Areas(record, report, self.predictor.labels.names, table), ImageGrid(record, self.predictor, title)]

    def _bytes_per_pixel(self, job: Job) -> int:
        return 6 * self.predictor.labels.num_classes if _needs_probabilities(job) else 0

    def predict(self, jobs: Sequence[Job], seen: Sequence[Pixels]) -> list[Prediction]:
        """Segment images of one size."""
        self._check_memory(jobs[0].file, seen)
        return self.predictor.predict(seen, keep_probabilities=any(map(_needs_probabilities, jobs)))

    def _check_memory(self, file: Path, images: Sequence[Pixels]) -> None:
        """Refuse what takes more memory than there is: the system may end the process for that."""
        predictor = self.predictor
        height, width = images[0].shape[:2]
        if len(images) * height * width <= _SURELY_FITS or predictor.is_tiled((height, width)):
            return
        largest = 1.0 if predictor.tta is None else max(1.0, *predictor.tta.scales)
        needed = len(images) * height * width * largest**2 * memory_per_pixel(predictor.source)
        free = free_memory(predictor.device)
        if needed >= free:
            raise DataError(
                f"{file}: {width}x{height} pixels take about {needed / 2**30:.1f} GiB of memory, and "
                f"{free / 2**30:.1f} GiB are free; --tile auto computes large images by parts"
            )

    def write(self, job: Job, prediction: Prediction) -> Result:
        """The mask, and pictures of it; of a raster, the mask."""
        if job.is_raster:
            return Result(job, _content(segment_raster(self.predictor, job.file, job.targets["mask"][0])))
        prediction = prediction.without(self.predictor.pixels.lost(job.file, self.max_pixels))
        write_outputs(prediction, job.targets)
        shown = thumbnail(job.name, prediction.image, prediction.mask) if job.is_shown else None
        return Result(job, _content(prediction.pixels, math.prod(prediction.image.shape[:2])), shown)


class ClassHead(Head[ClassPrediction]):
    """A table of the most probable classes, and activation maps over the images."""

    predictor: ClassPredictor
    predictor_type = ClassPredictor
    options = ()
    if_large = "--max-pixels raises the limit"
    if_memory_ends = "--batch-size 1 computes one image at a time"
    beside = (PREDICTIONS,)

    kinds = ("csv", "cam")

    def _choose(self, save: Sequence[str] | None, top: int | None) -> None:
        self.save = ("csv",) if save is None else save
        unknown = [kind for kind in self.save if kind not in self.kinds]
        if unknown or not self.save:
            kind = unknown[0] if unknown else ""
            raise ConfigError(f"--save: a classifier writes no {kind!r}. {did_you_mean(kind, self.kinds)}")
        if top is not None and top < 1:
            raise ConfigError(f"--top: {top}; take 1 or more.")
        if "cam" in self.save:
            check_cam(self.predictor.source)
        self._top = min(top or 5, self.predictor.labels.num_classes)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Columns and engine."""
        return {"top": self._top, **self.predictor.settings}

    def plan(self, listing: Listing, output: Path) -> list[Job]:
        """Activation maps mirror the tree below `_cam`."""
        names = output_names(listing, self.predictor.pixels.suffixes)
        jobs = [
            Job(image, listing.folder / image, {"cam": [output / "_cam" / name]} if "cam" in self.save else {})
            for image, name in names.items()
        ]
        check_jobs(jobs)
        return jobs

    def check_record(self, record: Record) -> None:
        """Refuse another number of columns than the table has that is there."""
        if any(settings.get("top") != self._top for settings in record.other_settings()):
            path = printable(record.output / PREDICTIONS)
            raise ConfigError(f"{path}: has other columns; give the --top it was made with, or --overwrite.")

    def sinks(self, record: Record, report: PredictReport, title: str) -> list[Sink]:
        """The table."""
        return [Predictions(record, self.predictor.labels.names, self._top)]

    def _bytes_per_pixel(self, job: Job) -> int:
        return 16 if job.targets else 0  # while a map is drawn over the picture

    def predict(self, jobs: Sequence[Job], seen: Sequence[Pixels]) -> list[ClassPrediction]:
        """Classify what is seen of images."""
        return self.predictor.predict(seen, cam=any("cam" in job.targets for job in jobs))

    def write(self, job: Job, prediction: ClassPrediction) -> Result:
        """The activation map, where it is asked for."""
        for target in job.targets.get("cam", ()):
            target.parent.mkdir(parents=True, exist_ok=True)
            whole = self.predictor.pixels.read(job.file, self.max_pixels)
            write_image(target, self.predictor.cam_overlay(whole, prediction))
        return Result(job, Content(top=tuple(prediction.top(self._top))))


HEADS: Mapping[str, type[Head[Any]]] = {"segmentation": MaskHead, "classification": ClassHead}
"""`task` -> what becomes of its predictions."""


def head_of(source: AnyTrained) -> type[Head[Any]]:
    """What becomes of a network's predictions."""
    return HEADS[source.config.task]


def as_predictor(checkpoint: str | Path | AnyPredictor) -> AnyPredictor:
    """The predictor of a checkpoint, with the settings that it has by itself, or the one that is given."""
    if isinstance(checkpoint, BasePredictor):
        return checkpoint
    source = load_trained(checkpoint)
    predictor: AnyPredictor = head_of(source).predictor_type(source)
    return predictor


def _needs_probabilities(job: Job) -> bool:
    return any(KINDS[kind].of_probabilities for kind in job.targets)


def _content(pixels: Sequence[int], size: int = 0) -> Content:
    return Content(pixels={index: count for index, count in enumerate(pixels) if count}, size=size)
