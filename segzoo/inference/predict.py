"""A folder of images in, a folder of masks out."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from segzoo.checkpoint.read import find_checkpoint, model_name
from segzoo.data.images import MAX_PIXELS, read_mask
from segzoo.data.pixels import as_picture
from segzoo.data.progress import speed_bar
from segzoo.data.sheet import Cell
from segzoo.data.whole_file import remove_leftovers
from segzoo.errors import ConfigError, DataError, SegzooError, printable
from segzoo.inference.areas import AreaTable
from segzoo.inference.contact_sheet import spread, thumbnail, write_contact_sheet
from segzoo.inference.jobs import Job, Shard, plan_jobs, select_jobs
from segzoo.inference.listing import find_images
from segzoo.inference.outputs import AREAS, check_kinds
from segzoo.inference.predictor import Predictor
from segzoo.inference.raster import is_raster, segment_raster
from segzoo.inference.report import PredictReport
from segzoo.inference.work import Outcome, Worker, not_computed, unwritten


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

    Beside the outputs it writes `summary.json`, a contact sheet, and `failed.json` where images failed.

    Args:
        checkpoint: a `.ckpt`, a run directory or a saved model; or a predictor, which says how to compute.
        source: image file; folder; pattern such as `photos/**/*.jpg`; or a `.txt` with one path a line.
        output: folder for the results; None takes predictions/<run>.
        save: kinds of output, `outputs.KINDS` and `areas`, a table of all images' areas by class. Masks mirror the
            input's tree; other kinds do so below `_<kind>`.
        skip_existing: leave out images whose outputs are all there.
        overwrite: replace outputs that are there.
        shard: which part of the images; None takes all.
        batch_size: images of equal padded size that are computed together; None takes 8 on a GPU, else 1. Changes no
            result beyond the rounding of floats.
        max_pixels: refuse to read larger images whole.

    Raises:
        ConfigError: nothing to do, or outputs that would be overwritten.
        CheckpointError: refused, with the reason.
        DataError: outputs can no longer be written, as on a full disk.
    """
    check_kinds(save)
    path = checkpoint.source.path if isinstance(checkpoint, Predictor) else find_checkpoint(checkpoint)
    source = Path(source)
    output = Path("predictions", model_name(path)) if output is None else Path(output)
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor(path)
    run = _Run(predictor, source, output, save, shard or Shard())
    worker = Worker(predictor, batch_size=batch_size, max_pixels=max_pixels)
    try:
        return run.do(worker, skip_existing=skip_existing, overwrite=overwrite)
    except OSError as error:
        raise DataError(f"{error.filename or output}: cannot be written ({error.strerror})") from error


def check_output(folder: Path, output: Path) -> None:
    """Refuse an output folder that is the images' own, or no folder.

    Args:
        folder: where the images are.
        output: for the results.

    Raises:
        ConfigError: it is.
    """
    if os.path.realpath(output) == os.path.realpath(folder):
        raise ConfigError(f"--output: {output} is the input folder; masks would stand among the images. Name another.")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output: {output} is no folder.")


class _Run:
    """One call of `predict`."""

    def __init__(self, predictor: Predictor, source: Path, output: Path, save: Sequence[str], shard: Shard) -> None:
        self._predictor = predictor
        self._labels = predictor.labels
        self._source = source
        self._output = output
        self._save = save
        self._shard = shard
        self._areas: AreaTable | None = None
        self._report = PredictReport(output, pixels=[0] * predictor.labels.num_classes, shard=shard)

    def do(self, worker: Worker, *, skip_existing: bool, overwrite: bool) -> PredictReport:
        listing = find_images(self._source, without=self._output, suffixes=self._predictor.pixels.suffixes)
        check_output(listing.folder, self._output)
        jobs = plan_jobs(listing, self._output, self._save, self._labels, is_raster)
        jobs = jobs[self._shard.index :: self._shard.count]
        if AREAS in self._save:
            self._areas = self._area_table(keep=skip_existing, replace=overwrite)
        todo, skipped = select_jobs(jobs, self._is_done, skip_existing=skip_existing, overwrite=overwrite)
        self._report.skipped = [job.image for job in skipped]
        if self._shard.index == 0:  # nobody else would tell
            for image, reason in listing.faults.items():
                self._report.fail(image, reason)
        remove_leftovers(file for job in todo for file in job.files)
        on_sheet = [job for job in (jobs[index] for index in spread(len(jobs))) if not job.is_raster]
        with self._report, self._areas or nullcontext():
            cells = self._segment(todo, worker, {job.image for job in on_sheet})
            cells |= {job.image: cell for job in on_sheet if job in skipped and (cell := self._cell_of_files(job))}
            self._finish(jobs, [cells[job.image] for job in on_sheet if job.image in cells])
        return self._report

    def _area_table(self, *, keep: bool, replace: bool) -> AreaTable:
        path = self._output / self._shard.file_name(f"{AREAS}.csv")
        if path.exists() and not (keep or replace):
            raise ConfigError(f"{path} is there already. Give --skip-existing, --overwrite or another --output.")
        return AreaTable(path, self._labels.names, keep=keep)

    def _is_done(self, job: Job) -> bool:
        if not all(file.exists() for file in job.files):
            return False
        if job.is_raster:
            return bool(job.files)  # one that has none is refused each time
        return self._areas is None or job.name in self._areas

    def _segment(self, jobs: Sequence[Job], worker: Worker, on_sheet: set[Path]) -> dict[Path, Cell]:
        """Do the jobs, and keep the books; gives the cells of the contact sheet."""
        cells = {}
        pictures = [job for job in jobs if not job.is_raster]
        with speed_bar("predicting", len(pictures), "images") as move_to:
            for number, outcome in enumerate(worker.outcomes(pictures, on_sheet), start=1):
                self._note(outcome)
                if outcome.cell is not None:
                    cells[outcome.job.image] = outcome.cell
                move_to(number)
        for job in jobs:
            if job.is_raster:  # each of which has a bar of its own
                self._note(self._raster(job))
        return cells

    def _raster(self, job: Job) -> Outcome:
        """A job that is read and written by windows, which has a mask only."""
        try:
            if not job.targets:
                return Outcome(job, f"{job.file}: of rasters only masks are written; add mask to --save")
            target = job.targets["mask"][0]
            target.parent.mkdir(parents=True, exist_ok=True)
            tile, overlap = self._predictor.tile, self._predictor.overlap
            segment_raster(self._predictor, job.file, target, tile=tile, overlap=overlap)
        except SegzooError as error:
            return Outcome(job, "; ".join(error.problems))
        except OSError as error:
            return Outcome(job, unwritten(job, error))
        except (RuntimeError, MemoryError) as error:
            return Outcome(job, not_computed(error, job.file))
        return Outcome(job)

    def _note(self, outcome: Outcome) -> None:
        report = self._report
        if outcome.fault is not None:
            report.fail(outcome.job.image, outcome.fault)
            return
        report.written.append(outcome.job.image)
        if outcome.pixels:
            report.pixels = [total + count for total, count in zip(report.pixels, outcome.pixels, strict=True)]
        if outcome.pixels and self._areas is not None:
            self._areas.add(outcome.job.name, outcome.pixels, outcome.size)

    def _cell_of_files(self, job: Job) -> Cell | None:
        """The cell of an image that an earlier run segmented, where its mask was kept."""
        if "mask" not in job.targets:
            return None
        try:
            planes = [read_mask(file) for file in job.targets["mask"]]
            image = as_picture(self._predictor.read(job.file))
        except SegzooError:
            return None
        if any(plane.shape != image.shape[:2] for plane in planes):
            return None
        mask = np.stack(planes) == 255 if self._labels.multi_label else planes[0]
        return thumbnail(job.name, image, mask.astype(np.uint8))

    def _finish(self, jobs: Sequence[Job], cells: Sequence[Cell]) -> None:
        place = {job.image: number for number, job in enumerate(jobs)}
        self._report.written.sort(key=place.__getitem__)
        if self._areas is not None:
            self._areas.finish(job.name for job in jobs)
        sheet = self._output / self._shard.file_name("contact_sheet.jpg")
        if cells:
            write_contact_sheet(
                sheet, cells, self._labels, f"{printable(self._source)} ({len(cells)} of {len(jobs)} images)"
            )
        self._report.write_summary(self._labels, self._facts())

    def _facts(self) -> dict[str, object]:
        predictor = self._predictor
        return {
            "input": printable(self._source),
            "shard": f"{self._shard.index}/{self._shard.count}",
            "save": list(self._save),
            "checkpoint": printable(predictor.source.path),
            "engine": predictor.engine.name,
            "precision": predictor.engine.precision,
            "tile": predictor.tile,
            "tile_overlap": predictor.overlap if predictor.tile else None,
            "tta": None if predictor.tta is None else {"scales": predictor.tta.scales, "flip": predictor.tta.flip},
        }
