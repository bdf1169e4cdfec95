"""What `predict` makes of a network's scores, by task: files of each image, and files about all of them."""

import logging
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

from segzoo.checkpoint.read import AnyTrained, load_trained
from segzoo.data.pictures import GridImage, spread, thumbnail, write_image_grid
from segzoo.data.reading.images import write_image
from segzoo.data.reading.pixels import Pixels, as_picture
from segzoo.errors import ConfigError, DataError, SegzooError, did_you_mean, printable
from segzoo.inference.class_predictor import ClassPrediction, ClassPredictor, check_cam
from segzoo.inference.jobs import Job, Listing, plan_jobs
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
from segzoo.inference.raster import is_raster, segment_raster
from segzoo.inference.record import Content, Record
from segzoo.inference.report import PredictReport, class_areas
from segzoo.inference.tables import AREAS_FILE, PREDICTIONS, write_areas, write_predictions
from segzoo.inference.tile_size import free_memory, memory_per_pixel

logger = logging.getLogger(__name__)

AnyPredictor = BasePredictor[Any]

CONTACT_SHEET = "contact_sheet.jpg"

_SURELY_FITS = 4 * 10**6  # pixels for which nobody measures what the network takes


class Head(ABC, Generic[Predicted]):
    """One call of `predict`, as far as the task decides.

    Args:
        predictor: the network.
        save: kinds of output; None takes the task's own.
        top: classes of each image in a table; None takes the task's own.
        max_pixels: refuse to read larger images whole.

    Raises:
        ConfigError: a kind or a number that this task or network has not.
    """

    predictor_type: ClassVar[type[Any]]
    options: ClassVar[tuple[str, ...]]
    """Of the predictor, which others have not."""
    if_large: ClassVar[str]
    """Advice for images beyond `max_pixels`."""
    if_memory_ends: ClassVar[str]

    def __init__(
        self, predictor: BasePredictor[Predicted], save: Sequence[str] | None, top: int | None, max_pixels: int
    ) -> None:
        self.predictor = predictor
        self.max_pixels = max_pixels
        self.save = self._checked(save, top)

    @abstractmethod
    def _checked(self, save: Sequence[str] | None, top: int | None) -> Sequence[str]:
        """The kinds of output."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """How it computes, for the record."""

    @property
    @abstractmethod
    def beside(self) -> Sequence[str]:
        """Names of the files about all images."""

    @abstractmethod
    def plan(self, listing: Listing, output: Path) -> list[Job]:
        """A job for each image, in the listing's order.

        Raises:
            ConfigError: outputs that an image cannot have, or that would spoil each other or the input.
        """

    def check_record(self, record: Record) -> None:
        """Refuse to go on with a folder whose outputs would not fit together with the new ones."""
        return

    def bytes_per_pixel(self, job: Job) -> int:
        """What an image takes from reading to writing, beside its picture."""
        return 0

    def too_large(self, file: Path, images: Sequence[Pixels]) -> DataError | None:
        """A fault where the network would take more memory than there is: the system may end the process for that."""
        return None

    @abstractmethod
    def predict(self, jobs: Sequence[Job], images: Sequence[Pixels]) -> list[Predicted]:
        """Predict the images of jobs together, as the network sees them."""

    @abstractmethod
    def write(self, job: Job, prediction: Predicted) -> Content:
        """Write a job's files; runs in a pool.

        Raises:
            SegzooError: what they are made of cannot be had.
            OSError: one cannot be written.
        """

    def write_by_windows(self, job: Job) -> Content:
        """Read, predict and write an image that is never whole in memory; such jobs `plan` marks as rasters."""
        raise NotImplementedError

    @abstractmethod
    def write_about_all(self, record: Record, report: PredictReport, title: str) -> dict[str, Any]:
        """Write the files about all images; gives facts for summary.json."""


class MaskHead(Head[Prediction]):
    """Masks and pictures of them; a contact sheet, and a table of areas."""

    predictor: Predictor
    predictor_type = Predictor
    options = ("tta", "tile", "overlap")
    if_large = "--max-pixels raises the limit, and --tile auto keeps the network's memory small"
    if_memory_ends = "--tile auto computes large images by parts, --batch-size 1 one at a time"

    def _checked(self, save: Sequence[str] | None, top: int | None) -> Sequence[str]:
        if top is not None:
            raise ConfigError("--top: this is a segmenter, which has no ranking of classes. Leave it out.")
        save = ("mask",) if save is None else save
        check_kinds(save)
        self._on_sheet: dict[Path, Job] = {}
        self._cells: dict[Path, GridImage | None] = {}
        return save

    @property
    def settings(self) -> Mapping[str, Any]:
        """Engine, tiles and augmentation."""
        return self.predictor.settings

    @property
    def beside(self) -> Sequence[str]:
        """The contact sheet, and the table of areas where it is asked for."""
        return [*([AREAS_FILE] if AREAS in self.save else []), CONTACT_SHEET]

    def plan(self, listing: Listing, output: Path) -> list[Job]:
        """Masks and pictures mirror the tree; rasters, which are read by windows, become masks only."""
        rasters = {image for image in listing.images if is_raster(listing.folder / image)}
        check_raster_kinds(self.save, [printable(image) for image in listing.images if image in rasters])

        def job_of(image: Path, file: Path, name: Path) -> Job:
            target = name.with_suffix(RASTER_SUFFIX) if image in rasters else name
            return Job(image, file, output_paths(output, target, self.save, self.predictor.labels), image in rasters)

        jobs = plan_jobs(listing, self.predictor.pixels.suffixes, job_of)
        on_sheet = [jobs[index] for index in spread(len(jobs))]
        self._on_sheet = {job.image: job for job in on_sheet if not job.is_raster}
        return jobs

    def bytes_per_pixel(self, job: Job) -> int:
        """The probabilities, where a kind of output needs them."""
        return 6 * self.predictor.labels.num_classes if _needs_probabilities(job) else 0

    def too_large(self, file: Path, images: Sequence[Pixels]) -> DataError | None:
        """By the memory that the network takes for each pixel."""
        predictor = self.predictor
        height, width = images[0].shape[:2]
        if len(images) * height * width <= _SURELY_FITS or predictor.is_tiled((height, width)):
            return None
        largest = 1.0 if predictor.tta is None else max(1.0, *predictor.tta.scales)
        needed = len(images) * height * width * largest**2 * memory_per_pixel(predictor.source)
        free = free_memory(predictor.device)
        if needed < free:
            return None
        return DataError(
            f"{file}: {width}x{height} pixels take about {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free; --tile auto computes large images by parts"
        )

    def predict(self, jobs: Sequence[Job], images: Sequence[Pixels]) -> list[Prediction]:
        """Segment images of one size."""
        return self.predictor.predict(images, keep_probabilities=any(map(_needs_probabilities, jobs)))

    def write(self, job: Job, prediction: Prediction) -> Content:
        """The mask, and pictures of it."""
        prediction = prediction.without(self.predictor.pixels.lost(job.file, self.max_pixels))
        write_outputs(prediction, job.targets)
        if job.image in self._on_sheet:
            self._cells[job.image] = thumbnail(job.name, prediction.image, prediction.mask)
        return _content(prediction.pixels, math.prod(prediction.image.shape[:2]))

    def write_by_windows(self, job: Job) -> Content:
        """The mask of a raster."""
        target = job.targets["mask"][0]
        target.parent.mkdir(parents=True, exist_ok=True)
        tile, overlap = self.predictor.tile, self.predictor.overlap
        return _content(segment_raster(self.predictor, job.file, target, tile=tile, overlap=overlap))

    def write_about_all(self, record: Record, report: PredictReport, title: str) -> dict[str, Any]:
        """The table of areas, and the contact sheet."""
        names = self.predictor.labels.names
        found = {name: entry.content or Content() for name, entry in record.covered().items()}
        counts = {name: [content.pixels.get(k, 0) for k in range(len(names))] for name, content in found.items()}
        report.pixels = [sum(each[k] for each in counts.values()) for k in range(len(names))]
        if AREAS in self.save:
            sized = [(name, counts[name], content.size) for name, content in found.items() if content.size]
            write_areas(record.output / AREAS_FILE, names, sized)
        for job in self._on_sheet.values():
            if self._cells.get(job.image) is None and record.is_done(job):
                self._cells[job.image] = self._cell_of_files(job)
        shown = [cell for job in self._on_sheet.values() if (cell := self._cells.get(job.image)) is not None]
        if shown:
            title = f"{title} ({len(shown)} of {len(record.jobs)} images)"
            write_image_grid(record.output / CONTACT_SHEET, shown, self.predictor.labels, title)
        return {"images": len(found), "classes": class_areas(names, report.pixels)}

    def _cell_of_files(self, job: Job) -> GridImage | None:
        """The cell of an image that another run or shard segmented, where its mask was kept."""
        if "mask" not in job.targets:
            return None
        try:
            image = as_picture(self.predictor.read(job.file))
            mask = self.predictor.labels.coding.read(job.targets["mask"], image.shape[:2])
        except SegzooError:
            return None
        return thumbnail(job.name, image, mask)


class ClassHead(Head[ClassPrediction]):
    """A table of the most probable classes, and activation maps over the images."""

    predictor: ClassPredictor
    predictor_type = ClassPredictor
    options = ()
    if_large = "--max-pixels raises the limit"
    if_memory_ends = "--batch-size 1 computes one image at a time"

    kinds = ("csv", "cam")

    def _checked(self, save: Sequence[str] | None, top: int | None) -> Sequence[str]:
        save = ("csv",) if save is None else save
        unknown = [kind for kind in save if kind not in self.kinds]
        if unknown or not save:
            kind = unknown[0] if unknown else ""
            raise ConfigError(f"--save: a classifier writes no {kind!r}. {did_you_mean(kind, self.kinds)}")
        if top is not None and top < 1:
            raise ConfigError(f"--top: {top}; take 1 or more.")
        if "cam" in save:
            check_cam(self.predictor.source)
        self._top = min(top or 5, self.predictor.labels.num_classes)
        return save

    @property
    def settings(self) -> Mapping[str, Any]:
        """Columns and engine."""
        return {"top": self._top, **self.predictor.settings}

    @property
    def beside(self) -> Sequence[str]:
        """The table."""
        return [PREDICTIONS]

    def plan(self, listing: Listing, output: Path) -> list[Job]:
        """Activation maps mirror the tree below `_cam`."""

        def job_of(image: Path, file: Path, name: Path) -> Job:
            return Job(image, file, {"cam": [output / "_cam" / name]} if "cam" in self.save else {})

        return plan_jobs(listing, self.predictor.pixels.suffixes, job_of)

    def check_record(self, record: Record) -> None:
        """Refuse another number of columns.

        Raises:
            ConfigError: the table that is there has another.
        """
        if any(settings.get("top") != self._top for settings in record.other_settings()):
            path = printable(record.output / PREDICTIONS)
            raise ConfigError(f"{path}: has other columns; give the --top it was made with, or --overwrite.")

    def bytes_per_pixel(self, job: Job) -> int:
        """What drawing a map takes."""
        return 16 if job.targets else 0  # while a map is drawn over the picture

    def predict(self, jobs: Sequence[Job], images: Sequence[Pixels]) -> list[ClassPrediction]:
        """Classify what is seen of images."""
        return self.predictor.predict(images, cam=any("cam" in job.targets for job in jobs))

    def write(self, job: Job, prediction: ClassPrediction) -> Content:
        """The activation map, where it is asked for."""
        for target in job.targets.get("cam", ()):
            target.parent.mkdir(parents=True, exist_ok=True)
            whole = self.predictor.pixels.read(job.file, self.max_pixels)
            write_image(target, self.predictor.cam_overlay(whole, prediction))
        return Content(top=tuple(prediction.top(self._top)))

    def write_about_all(self, record: Record, report: PredictReport, title: str) -> dict[str, Any]:
        """The table."""
        images = {name: entry.content.top for name, entry in record.covered().items() if entry.content}
        write_predictions(record.output / PREDICTIONS, self._top, images)
        best = Counter(ranking[0][0] for ranking in images.values())
        classes = {name: {"images": best[name]} for name in self.predictor.labels.names}
        return {"images": len(images), "classes": classes}


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
