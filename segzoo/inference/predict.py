"""A folder of images in, a folder of masks or a table of classes out."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from segzoo.checkpoint.read import model_name
from segzoo.data.reading.images import IMAGE_SUFFIXES, MAX_PIXELS
from segzoo.data.reading.tree import is_file
from segzoo.errors import ConfigError, DataError, first_line, printable
from segzoo.escapes import show_log
from segzoo.files import possible_output
from segzoo.inference.heads import AnyPredictor, Head, as_predictor, head_of
from segzoo.inference.jobs import Job, Result, Shard, find_images
from segzoo.inference.record import FAILED, Maker, Record
from segzoo.inference.runner import run_jobs
from segzoo.inference.sinks import SUMMARY, PredictReport
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
    What it is at goes to standard error as `show_log` says: a bar, or a line at the start and each minute.

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
    _check_work(batch_size=batch_size, max_pixels=max_pixels, skip_existing=skip_existing, overwrite=overwrite)
    if source == "":  # which `Path` takes for the working folder
        raise ConfigError("INPUT: empty. Name an image, a folder, a pattern or a list; . is this folder.")
    source = Path(source)
    predictor = as_predictor(checkpoint)
    head = head_of(predictor.source)(predictor, save, top, max_pixels)
    output = Path("predictions", model_name(predictor.source.path)) if output is None else possible_output(Path(output))
    batch_size = batch_size or (1 if predictor.device.type == "cpu" else 8)
    try:
        record, skipped, todo = _plan(head, source, output, shard or Shard(), skip_existing, overwrite)
        results = run_jobs(todo, head, batch_size)
        return _into_sinks(results, head, record, skipped=skipped, count=len(todo), source=source)
    except OSError as error:
        reason = error.strerror or first_line(error)
        where = error.filename or output
        raise DataError(f"{where}: cannot be written ({reason}). Go on with --skip-existing.") from error


classify = predict
"""The same by another name, for those who look for it."""


def _plan(
    head: Head[Any], source: Path, output: Path, shard: Shard, skip_existing: bool, overwrite: bool
) -> tuple[Record, list[Job], list[Job]]:
    """The record of the folder, the jobs that are done, and those to do: rasters last, which may take hours each."""
    listing = find_images(source, without=output, suffixes=head.predictor.pixels.suffixes)
    _check_output(listing.folder, output, searched=not is_file(source))
    jobs = head.plan(listing, output)
    record = Record(output, shard, Maker.of(head.predictor.source, head.settings), jobs, listing.faults)
    if skip_existing:
        head.check_record(record)
    beside = [output / name for name in (*head.beside, SUMMARY, FAILED)]
    todo, skipped = record.jobs_to_do(beside, skip_existing=skip_existing, overwrite=overwrite)
    if skipped and record.other_settings():
        logger.warning("%s: some images were computed with other settings; summary.json lists them", output)
    logger.info("predicting: %d images with %s into %s", len(todo), record.maker, printable(output))
    return record, skipped, sorted(todo, key=lambda job: job.is_raster)


def _into_sinks(
    results: Iterable[Result], head: Head[Any], record: Record, *, skipped: Sequence[Job], count: int, source: Path
) -> PredictReport:
    """Note what becomes of each job, and write what is said of the whole folder, whoever did which part of it."""
    report = PredictReport(record.output, skipped=[job.image for job in skipped])
    if record.shard.index == 0:  # nobody else would tell
        for image, reason in record.unlisted.items():
            report.fail(image, reason)
    sinks = head.sinks(record, report, title=printable(source))
    with record:
        with speed_bar("predicting", count, "images") as move_to:
            for number, result in enumerate(results, start=1):
                report.add(result)
                record.add(result)
                for sink in sinks:
                    sink.add(result)
                move_to(number)
        head.warn_of_dark()

        def write() -> None:
            found = {key: value for sink in sinks for key, value in sink.close().items()}
            asked = {"input": printable(source), "shard": str(record.shard), "save": list(head.save)}
            report.close(record.jobs, {**asked, **record.facts(), **found})

        record.write_for_all(write)
    return report


def _check_work(*, batch_size: int | None, max_pixels: int, skip_existing: bool, overwrite: bool) -> None:
    """See that amounts are some, and that outputs are either kept or replaced."""
    amounts = {"batch_size": batch_size, "max_pixels": max_pixels}
    problems = [
        f"{key}: {value}; it is at least 1." for key, value in amounts.items() if value is not None and value < 1
    ]
    if skip_existing and overwrite:
        problems.append("skip_existing, overwrite: outputs that are there are either kept or replaced. Give one.")
    if problems:
        raise ConfigError(problems)


def _check_output(folder: Path, output: Path, *, searched: bool = True) -> None:
    """Refuse an output folder that is the images' own, is no folder, or holds some of the images.

    Those that a list names may be anywhere; of a folder that is `searched`, all that lies in it is meant.
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
