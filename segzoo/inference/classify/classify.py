"""A folder of images in, a table of their classes out."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segzoo.checkpoint.read import find_checkpoint, model_name
from segzoo.data.images import MAX_PIXELS
from segzoo.data.progress import speed_bar
from segzoo.errors import ConfigError, DataError, did_you_mean, first_line, printable
from segzoo.files import possible_output
from segzoo.inference.classify.predictor import ClassPredictor, check_cam
from segzoo.inference.classify.table import PREDICTIONS, write_predictions
from segzoo.inference.classify.work import CAM, ClassOutcome, ClassWorker
from segzoo.inference.jobs import Job, Shard, check_jobs, check_work
from segzoo.inference.listing import Listing, find_images, input_path, mask_names
from segzoo.inference.predict import check_output
from segzoo.inference.record import Content, Maker, Record, network_digest
from segzoo.inference.report import FAILED, SUMMARY, PredictReport
from segzoo.log import show_log

logger = logging.getLogger(__name__)

CSV = "csv"
KINDS = (CSV, CAM)
TOP = 5
"""Classes of an image in the table, where nobody says how many."""


def classify(
    checkpoint: str | Path | ClassPredictor,
    source: str | Path,
    *,
    output: str | Path | None = None,
    save: Sequence[str] = (CSV,),
    top: int = TOP,
    skip_existing: bool = False,
    overwrite: bool = False,
    shard: Shard | None = None,
    batch_size: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PredictReport:
    """Classify a file, every image below a folder, or those that a pattern or a list names.

    Writes predictions.csv, with the most probable classes of each image; `summary.json`, and `failed.json` where
    images failed. Activation maps mirror the input's tree below `_cam`.

    Args:
        checkpoint: a `.ckpt` or a run directory of a classifier; or a predictor.
        source: image file; folder; pattern such as `photos/**/*.jpg`; or a `.txt` with one path a line.
        output: folder for the results; None takes predictions/<run>.
        save: csv, and cam for class activation maps over the images. The table is written in any case.
        top: classes of each image in the table; at most all there are.
        skip_existing: leave out images that are done, with all their outputs. The network has to be the one that did
            them.
        overwrite: replace outputs that are there.
        shard: which part of the images; None takes all.
        batch_size: images that are computed together; None takes 8 on a GPU, else 1. Changes no result beyond the
            rounding of floats.
        max_pixels: refuse to read larger images.

    Raises:
        ConfigError: nothing to do, outputs that would be overwritten, or activation maps of a network that has none.
        CheckpointError: refused, with the reason.
        DataError: outputs can no longer be written, as on a full disk.
    """
    show_log()
    check_work(batch_size=batch_size, max_pixels=max_pixels, skip_existing=skip_existing, overwrite=overwrite)
    _check_request(save, top)
    path = checkpoint.source.path if isinstance(checkpoint, ClassPredictor) else find_checkpoint(checkpoint)
    source = input_path(source)
    output = Path("predictions", model_name(path)) if output is None else possible_output(Path(output))
    check_output(source, output)
    predictor = checkpoint if isinstance(checkpoint, ClassPredictor) else ClassPredictor(path)
    if CAM in save:
        check_cam(predictor.source)
    run = _Run(predictor, source, output, save, top, shard or Shard())
    worker = ClassWorker(predictor, batch_size=batch_size, max_pixels=max_pixels)
    return run.do(worker, skip_existing=skip_existing, overwrite=overwrite)


def _check_request(save: Sequence[str], top: int) -> None:
    unknown = [kind for kind in save if kind not in KINDS]
    if unknown or not save:
        kind = unknown[0] if unknown else ""
        raise ConfigError(f"--save: a classifier writes no {kind!r}. {did_you_mean(kind, KINDS)}")
    if top < 1:
        raise ConfigError(f"--top: {top}; take 1 or more.")


class _Run:
    """One call of `classify`."""

    def __init__(
        self, predictor: ClassPredictor, source: Path, output: Path, save: Sequence[str], top: int, shard: Shard
    ) -> None:
        self._predictor = predictor
        self._source = source
        self._output = output
        self._save = save
        self._top = min(top, predictor.labels.num_classes)
        self._shard = shard
        self._report = PredictReport(output)

    def do(self, worker: ClassWorker, *, skip_existing: bool, overwrite: bool) -> PredictReport:
        listing = find_images(self._source, without=self._output, suffixes=self._predictor.pixels.suffixes)
        jobs = self._jobs(listing)
        record = Record(self._output, self._shard, self._maker(), jobs, listing.faults)
        beside = [self._output / name for name in (PREDICTIONS, SUMMARY, FAILED)]
        if skip_existing:
            self._check_columns(record)
        todo, skipped = record.jobs_to_do(beside, skip_existing=skip_existing, overwrite=overwrite)
        self._report.skipped = [job.image for job in skipped]
        if self._shard.index == 0:  # nobody else would tell
            for image, reason in listing.faults.items():
                self._report.fail(image, reason)
        logger.info("predicting: %d images with %s into %s", len(todo), record.maker, printable(self._output))
        self._report.start()
        try:
            with record:
                with speed_bar("predicting", len(todo), "images") as move_to:
                    for number, outcome in enumerate(worker.outcomes(todo), start=1):
                        self._note(outcome, record)
                        move_to(number)
                place = {job.image: number for number, job in enumerate(jobs)}
                self._report.written.sort(key=place.__getitem__)
                record.write_for_all(lambda: self._write_about_all(record))
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(f"{self._output}: cannot be written ({reason}). Go on with --skip-existing.") from error
        return self._report

    def _maker(self) -> Maker:
        source = self._predictor.source
        digest = network_digest(source.classifier, source.config, source.labels)
        return Maker(digest, printable(source.path), {"top": self._top})

    def _jobs(self, listing: Listing) -> list[Job]:
        """A job for each image; names are computed over the whole listing, so that shards agree."""
        jobs = [
            Job(image, listing.folder / image, {CAM: [self._output / f"_{CAM}" / name]} if CAM in self._save else {})
            for image, name in mask_names(listing.images).items()
        ]
        check_jobs(jobs)
        return jobs

    def _check_columns(self, record: Record) -> None:
        if record.other_settings():
            path = printable(self._output / PREDICTIONS)
            raise ConfigError(f"{path}: has other columns; give the --top it was made with, or --overwrite.")

    def _note(self, outcome: ClassOutcome, record: Record) -> None:
        job = outcome.job
        if outcome.prediction is None:
            fault = outcome.fault or "not classified"
            self._report.fail(job.image, fault)
            record.failed(job, printable(fault))
            return
        self._report.written.append(job.image)
        record.done(job, Content(top=tuple(outcome.prediction.top(self._top))))

    def _write_about_all(self, record: Record) -> None:
        """The files about the whole folder, whoever did which part of it."""
        images = {name: entry.content.top for name, entry in record.covered().items() if entry.content}
        write_predictions(self._output / PREDICTIONS, self._top, images)
        best = Counter(ranking[0][0] for ranking in images.values())
        self._report.write_summary(
            {
                "input": printable(self._source),
                "shard": f"{self._shard.index}/{self._shard.count}",
                "save": list(self._save),
                "checkpoint": record.maker.checkpoint,
                "network": record.maker.network,
                "images": len(images),
                "classes": {name: {"images": best[name]} for name in self._predictor.labels.names},
            }
        )
