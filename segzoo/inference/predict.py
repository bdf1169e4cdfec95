"""A folder of images in, a folder of masks or a table of classes out."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segzoo.checkpoint.read import model_name
from segzoo.data.reading.images import IMAGE_SUFFIXES, MAX_PIXELS
from segzoo.data.reading.tree import is_file
from segzoo.errors import ConfigError, DataError, first_line, printable
from segzoo.files import possible_output
from segzoo.inference.heads import AnyPredictor, Head, as_predictor, head_of
from segzoo.inference.jobs import Job, Shard, find_images
from segzoo.inference.record import Maker, Record, network_digest
from segzoo.inference.report import FAILED, SUMMARY, PredictReport
from segzoo.inference.work import Outcome, Worker
from segzoo.log import show_log
from segzoo.progress import speed_bar

logger = logging.getLogger(__name__)


def predict(
    checkpoint: str | Path | AnyPredictor,
    source: str | Path,
    *,
    output: str | Path | None = None,
    save: Sequence[str] | None = None,
    top: int | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    shard: Shard | None = None,
    batch_size: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PredictReport:
    """Segment or classify a file, every image below a folder, or those that a pattern or a list names.

    Beside the outputs it writes `summary.json`, `failed.json` where images failed, and a contact sheet of masks or
    predictions.csv, the most probable classes of each image: all about the whole folder, whichever runs and shards did
    its parts; and `done.jsonl`, by which the next run goes on.
    What it is at goes to standard error as `segzoo.log.show_log` says: a bar, or a line at the start and each minute.

    Args:
        checkpoint: a `.ckpt`, a run directory or a saved model; or a predictor, which says how to compute.
        source: image file; folder; pattern such as `photos/**/*.jpg`; or a `.txt` with one path a line.
        output: folder for the results; None takes predictions/<run>.
        save: kinds of output. Of a segmenter `outputs.KINDS` and `areas`, a table of all images' areas by class; None
            takes mask. Of a classifier csv, the table, which is written in any case, and cam, class activation maps
            over the images; None takes csv. Masks mirror the input's tree; other kinds do so below `_<kind>`.
        top: of a classifier: classes of each image in the table, at most all there are; None takes 5.
        skip_existing: leave out images whose outputs are all there. The network has to be the one that made them.
        overwrite: replace outputs that are there.
        shard: which part of the images; None takes all.
        batch_size: images of equal padded size that are computed together; None takes 8 on a GPU, else 1. Changes no
            result beyond the rounding of floats.
        max_pixels: refuse to read larger images whole.

    Raises:
        ConfigError: nothing to do, outputs that would be overwritten, those of another network among them, or kinds
            that this network has not.
        CheckpointError: refused, with the reason.
        DataError: outputs can no longer be written, as on a full disk.
    """
    show_log()
    check_work(batch_size=batch_size, max_pixels=max_pixels, skip_existing=skip_existing, overwrite=overwrite)
    if source == "":  # which `Path` takes for the working folder
        raise ConfigError("INPUT: empty. Name an image, a folder, a pattern or a list; . is this folder.")
    source = Path(source)
    predictor = as_predictor(checkpoint)
    head = head_of(predictor.source)(predictor, save, top, max_pixels)
    output = Path("predictions", model_name(predictor.source.path)) if output is None else possible_output(Path(output))
    try:
        run = _Run(head, source, output, shard or Shard())
        return run.do(Worker(head, batch_size=batch_size), skip_existing=skip_existing, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror or first_line(error)
        where = error.filename or output
        raise DataError(f"{where}: cannot be written ({reason}). Go on with --skip-existing.") from error


classify = predict
"""The same by another name, for those who look for it."""


def check_work(*, batch_size: int | None, max_pixels: int, skip_existing: bool, overwrite: bool) -> None:
    """See that amounts are some, and that outputs are either kept or replaced.

    Raises:
        ConfigError: a line for each that is not so.
    """
    amounts = {"batch_size": batch_size, "max_pixels": max_pixels}
    problems = [
        f"{key}: {value}; it is at least 1." for key, value in amounts.items() if value is not None and value < 1
    ]
    if skip_existing and overwrite:
        problems.append("skip_existing, overwrite: outputs that are there are either kept or replaced. Give one.")
    if problems:
        raise ConfigError(problems)


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

    def __init__(self, head: Head[Any], source: Path, output: Path, shard: Shard) -> None:
        self._head = head
        self._source = source
        self._output = output
        self._shard = shard
        self._report = PredictReport(output)

    def do(self, worker: Worker, *, skip_existing: bool, overwrite: bool) -> PredictReport:
        suffixes = self._head.predictor.pixels.suffixes
        listing = find_images(self._source, without=self._output, suffixes=suffixes)
        check_output(listing.folder, self._output, searched=not is_file(self._source))
        jobs = self._head.plan(listing, self._output)
        record = Record(self._output, self._shard, self._maker(), jobs, listing.faults)
        if skip_existing:
            self._head.check_record(record)
        beside = [self._output / name for name in (*self._head.beside, SUMMARY, FAILED)]
        todo, skipped = record.jobs_to_do(beside, skip_existing=skip_existing, overwrite=overwrite)
        self._report.skipped = [job.image for job in skipped]
        if skipped and record.other_settings():
            logger.warning("%s: some images were computed with other settings; summary.json lists them", self._output)
        if self._shard.index == 0:  # nobody else would tell
            for image, reason in listing.faults.items():
                self._report.fail(image, reason)
        logger.info("predicting: %d images with %s into %s", len(todo), record.maker, printable(self._output))
        self._report.start()
        with record:
            self._predict(todo, worker, record)
            place = {job.image: number for number, job in enumerate(jobs)}
            self._report.written.sort(key=place.__getitem__)
            record.write_for_all(lambda: self._write_about_all(record))
        return self._report

    def _maker(self) -> Maker:
        source = self._head.predictor.source
        digest = network_digest(source.network, source.config, source.labels)
        return Maker(digest, printable(source.path), self._head.settings)

    def _predict(self, jobs: Sequence[Job], worker: Worker, record: Record) -> None:
        """Do the jobs, and keep the books."""
        pictures = [job for job in jobs if not job.is_raster]
        with speed_bar("predicting", len(pictures), "images") as move_to:
            for number, outcome in enumerate(worker.outcomes(pictures), start=1):
                self._note(outcome, record)
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
                self._note(worker.by_windows(job), record)

    def _note(self, outcome: Outcome, record: Record) -> None:
        job = outcome.job
        if outcome.content is None:
            fault = outcome.fault or "not predicted"
            self._report.fail(job.image, fault)
            record.failed(job, printable(fault))
            return
        self._report.written.append(job.image)
        record.done(job, outcome.content)

    def _write_about_all(self, record: Record) -> None:
        """The files about the whole folder, whoever did which part of it."""
        facts = self._head.write_about_all(record, self._report, printable(self._source))
        self._report.write_summary(
            {
                "input": printable(self._source),
                "shard": f"{self._shard.index}/{self._shard.count}",
                "save": list(self._head.save),
                "checkpoint": record.maker.checkpoint,
                "network": record.maker.network,
                **record.maker.settings,
                "other_settings": record.other_settings(),
                **facts,
            }
        )
