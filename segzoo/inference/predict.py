"""A folder of images in, a folder of masks out."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from segzoo.checkpoint.read import find_checkpoint, model_name
from segzoo.data.images import IMAGE_SUFFIXES, MAX_PIXELS
from segzoo.data.pixels import as_picture
from segzoo.data.progress import speed_bar
from segzoo.data.sheet import Cell
from segzoo.data.tree import is_file
from segzoo.errors import ConfigError, DataError, SegzooError, printable
from segzoo.files import possible_output
from segzoo.inference.areas import AREAS_FILE, write_areas
from segzoo.inference.contact_sheet import CONTACT_SHEET, spread, thumbnail, write_contact_sheet
from segzoo.inference.jobs import Job, Shard, check_work, plan_jobs
from segzoo.inference.listing import find_images, input_path
from segzoo.inference.outputs import AREAS, check_kinds
from segzoo.inference.predictor import Predictor
from segzoo.inference.raster import is_raster, segment_raster
from segzoo.inference.record import Content, Maker, Record, network_digest
from segzoo.inference.report import FAILED, SUMMARY, PredictReport, class_areas
from segzoo.inference.work import Outcome, Worker, not_computed, unwritten
from segzoo.log import show_log

logger = logging.getLogger(__name__)


def predict(
    checkpoint: str | Path | Predictor,
    source: str | Path,
    *,
    output: str | Path | None = None,
    save: Sequence[str] = ("mask",),
    skip_existing: bool = False,
    overwrite: bool = False,
    shard: Shard | None = None,
    batch_size: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PredictReport:
    """Segment a file, every image below a folder, or those that a pattern or a list names.

    Beside the outputs it writes `summary.json`, a contact sheet, and `failed.json` where images failed, all about the
    whole folder, whichever runs and shards did its parts; and `done.jsonl`, by which the next run goes on.
    What it is at goes to standard error as `segzoo.log.show_log` says: a bar, or a line at the start and each minute.

    Args:
        checkpoint: a `.ckpt`, a run directory or a saved model; or a predictor, which says how to compute.
        source: image file; folder; pattern such as `photos/**/*.jpg`; or a `.txt` with one path a line.
        output: folder for the results; None takes predictions/<run>.
        save: kinds of output, `outputs.KINDS` and `areas`, a table of all images' areas by class. Masks mirror the
            input's tree; other kinds do so below `_<kind>`.
        skip_existing: leave out images whose outputs are all there. The network has to be the one that made them.
        overwrite: replace outputs that are there.
        shard: which part of the images; None takes all.
        batch_size: images of equal padded size that are computed together; None takes 8 on a GPU, else 1. Changes no
            result beyond the rounding of floats.
        max_pixels: refuse to read larger images whole.

    Raises:
        ConfigError: nothing to do, outputs that would be overwritten, or those of another network among them.
        CheckpointError: refused, with the reason.
        DataError: outputs can no longer be written, as on a full disk.
    """
    show_log()
    check_work(batch_size=batch_size, max_pixels=max_pixels, skip_existing=skip_existing, overwrite=overwrite)
    check_kinds(save)
    path = checkpoint.source.path if isinstance(checkpoint, Predictor) else find_checkpoint(checkpoint)
    source = input_path(source)
    output = Path("predictions", model_name(path)) if output is None else possible_output(Path(output))
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor(path)
    run = _Run(predictor, source, output, save, shard or Shard())
    worker = Worker(predictor, batch_size=batch_size, max_pixels=max_pixels)
    try:
        return run.do(worker, skip_existing=skip_existing, overwrite=overwrite)
    except OSError as error:
        raise DataError(f"{error.filename or output}: cannot be written ({error.strerror})") from error


def check_output(folder: Path, output: Path, *, searched: bool = True) -> None:
    """Refuse an output folder that is the images' own, holds some of them, or is no folder.

    Args:
        folder: where the images are.
        output: for the results.
        searched: whether all that lies in the folder is meant, and not what a list names.

    Raises:
        ConfigError: it is.
    """
    if os.path.realpath(output) == os.path.realpath(folder):
        raise ConfigError(f"--output: {output} is the input folder; masks would stand among the images. Name another.")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output: {output} is no folder.")
    is_inside = Path(os.path.realpath(output)).is_relative_to(os.path.realpath(folder))
    if is_inside and searched and not any(output.glob("done*.jsonl")):
        images = (path for path in output.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if (image := next(images, None)) is not None:
            raise ConfigError(f"--output: {output} lies in the input and holds images, such as {image}. Name another.")


class _Run:
    """One call of `predict`."""

    def __init__(self, predictor: Predictor, source: Path, output: Path, save: Sequence[str], shard: Shard) -> None:
        self._predictor = predictor
        self._labels = predictor.labels
        self._source = source
        self._output = output
        self._save = save
        self._shard = shard
        self._report = PredictReport(output)

    def do(self, worker: Worker, *, skip_existing: bool, overwrite: bool) -> PredictReport:
        listing = find_images(self._source, without=self._output, suffixes=self._predictor.pixels.suffixes)
        check_output(listing.folder, self._output, searched=not is_file(self._source))
        jobs = plan_jobs(listing, self._output, self._save, self._labels, is_raster)
        record = Record(self._output, self._shard, self._maker(), jobs, listing.faults)
        tables = [AREAS_FILE] if AREAS in self._save else []
        beside = [self._output / name for name in (*tables, SUMMARY, FAILED, CONTACT_SHEET)]
        todo, skipped = record.jobs_to_do(beside, skip_existing=skip_existing, overwrite=overwrite)
        self._report.skipped = [job.image for job in skipped]
        if skipped and record.other_settings():
            logger.warning("%s: some images were computed with other settings; summary.json lists them", self._output)
        if self._shard.index == 0:  # nobody else would tell
            for image, reason in listing.faults.items():
                self._report.fail(image, reason)
        on_sheet = [job for job in (jobs[index] for index in spread(len(jobs))) if not job.is_raster]
        logger.info("predicting: %d images with %s into %s", len(todo), record.maker, printable(self._output))
        self._report.start()
        with record:
            cells = self._segment(todo, worker, record, {job.image for job in on_sheet})
            place = {job.image: number for number, job in enumerate(jobs)}
            self._report.written.sort(key=place.__getitem__)
            record.write_for_all(lambda: self._write_about_all(record, on_sheet, cells))
        return self._report

    def _maker(self) -> Maker:
        predictor = self._predictor
        source = predictor.source
        settings = {
            "engine": predictor.engine.name,
            "precision": predictor.engine.precision,
            "tile": predictor.tile,
            "tile_overlap": predictor.overlap if predictor.tile else None,
            "tta": None if predictor.tta is None else {"scales": [*predictor.tta.scales], "flip": predictor.tta.flip},
        }
        digest = network_digest(source.segmenter, source.config, source.labels)
        return Maker(digest, printable(source.path), settings)

    def _segment(
        self, jobs: Sequence[Job], worker: Worker, record: Record, on_sheet: set[Path]
    ) -> dict[Path, Cell | None]:
        """Do the jobs, and keep the books; gives the cells of the contact sheet."""
        cells: dict[Path, Cell | None] = {}
        pictures = [job for job in jobs if not job.is_raster]
        with speed_bar("predicting", len(pictures), "images") as move_to:
            for number, outcome in enumerate(worker.outcomes(pictures, on_sheet), start=1):
                self._note(outcome, record)
                if outcome.cell is not None:
                    cells[outcome.job.image] = outcome.cell
                move_to(number)
        if worker.dark:
            logger.warning(
                "%d 16-bit images use less than a quarter of their range, such as %s: the network saw them all but "
                "black. One that was trained with data.value_range sees more.",
                len(worker.dark),
                worker.dark[0],
            )
        for job in jobs:
            if job.is_raster:  # each of which has a bar of its own
                self._note(self._raster(job), record)
        return cells

    def _raster(self, job: Job) -> Outcome:
        """A job that is read and written by windows, which has a mask only."""
        try:
            target = job.targets["mask"][0]
            target.parent.mkdir(parents=True, exist_ok=True)
            tile, overlap = self._predictor.tile, self._predictor.overlap
            pixels = segment_raster(self._predictor, job.file, target, tile=tile, overlap=overlap)
        except SegzooError as error:
            return Outcome(job, "; ".join(error.problems))
        except OSError as error:
            return Outcome(job, unwritten(job, error))
        except (RuntimeError, MemoryError) as error:
            return Outcome(job, not_computed(error, job.file))
        return Outcome(job, pixels=pixels)

    def _note(self, outcome: Outcome, record: Record) -> None:
        job = outcome.job
        if outcome.fault is not None:
            self._report.fail(job.image, outcome.fault)
            record.failed(job, printable(outcome.fault))
            return
        self._report.written.append(job.image)
        counts = {index: count for index, count in enumerate(outcome.pixels) if count}
        record.done(job, Content(pixels=counts, size=outcome.size))

    def _cell_of_files(self, job: Job) -> Cell | None:
        """The cell of an image that another run or shard segmented, where its mask was kept."""
        if "mask" not in job.targets:
            return None
        try:
            image = as_picture(self._predictor.read(job.file))
            mask = self._labels.coding.read(job.targets["mask"], image.shape[:2])
        except SegzooError:
            return None
        return thumbnail(job.name, image, mask)

    def _write_about_all(self, record: Record, on_sheet: Sequence[Job], cells: dict[Path, Cell | None]) -> None:
        """The files about the whole folder, whoever did which part of it."""
        found = {name: entry.content or Content() for name, entry in record.covered().items()}
        counts = {
            name: [content.pixels.get(index, 0) for index in range(self._labels.num_classes)]
            for name, content in found.items()
        }
        self._report.pixels = [
            sum(each[index] for each in counts.values()) for index in range(self._labels.num_classes)
        ]
        if AREAS in self._save:
            sized = [(name, counts[name], content.size) for name, content in found.items() if content.size]
            write_areas(self._output / AREAS_FILE, self._labels.names, sized)
        for job in on_sheet:
            if cells.get(job.image) is None and record.is_done(job):
                cells[job.image] = self._cell_of_files(job)
        shown = [cell for job in on_sheet if (cell := cells.get(job.image)) is not None]
        if shown:
            title = f"{printable(self._source)} ({len(shown)} of {len(record.jobs)} images)"
            write_contact_sheet(self._output / CONTACT_SHEET, shown, self._labels, title)
        self._report.write_summary(
            {
                "input": printable(self._source),
                "shard": f"{self._shard.index}/{self._shard.count}",
                "save": list(self._save),
                "checkpoint": record.maker.checkpoint,
                "network": record.maker.network,
                **record.maker.settings,
                "other_settings": record.other_settings(),
                "images": len(found),
                "classes": class_areas(self._labels.names, self._report.pixels),
            }
        )
