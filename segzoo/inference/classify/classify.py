"""A folder of images in, a table of their classes out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segzoo.checkpoint.read import find_checkpoint, model_name
from segzoo.data.images import MAX_PIXELS
from segzoo.data.progress import speed_bar
from segzoo.data.whole_file import remove_leftovers
from segzoo.errors import ConfigError, DataError, did_you_mean, first_line, printable
from segzoo.inference.classify.predictor import ClassPredictor, check_cam
from segzoo.inference.classify.table import PREDICTIONS, ClassTable
from segzoo.inference.classify.work import CAM, ClassOutcome, ClassWorker
from segzoo.inference.jobs import Job, Shard, check_jobs, select_jobs
from segzoo.inference.listing import Listing, find_images, mask_names
from segzoo.inference.predict import check_output
from segzoo.inference.report import PredictReport

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
        skip_existing: leave out images that are in the table, with all their outputs.
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
    _check_request(save, top)
    path = checkpoint.source.path if isinstance(checkpoint, ClassPredictor) else find_checkpoint(checkpoint)
    source = Path(source)
    output = Path("predictions", model_name(path)) if output is None else Path(output)
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
        self._report = PredictReport(output, shard=shard)

    def do(self, worker: ClassWorker, *, skip_existing: bool, overwrite: bool) -> PredictReport:
        listing = find_images(self._source, without=self._output, suffixes=self._predictor.pixels.suffixes)
        jobs = self._jobs(listing)[self._shard.index :: self._shard.count]
        table = self._table(keep=skip_existing, replace=overwrite)

        def is_done(job: Job) -> bool:
            return job.name in table and all(file.exists() for file in job.files)

        todo, skipped = select_jobs(jobs, is_done, skip_existing=skip_existing, overwrite=overwrite)
        self._report.skipped = [job.image for job in skipped]
        if self._shard.index == 0:  # nobody else would tell
            for image, reason in listing.faults.items():
                self._report.fail(image, reason)
        remove_leftovers(file for job in todo for file in job.files)
        try:
            with self._report, table, speed_bar("predicting", len(todo), "images") as move_to:
                for number, outcome in enumerate(worker.outcomes(todo), start=1):
                    self._note(outcome, table)
                    move_to(number)
            self._finish(jobs, table)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(f"{self._output}: cannot be written ({reason}). Go on with --skip-existing.") from error
        return self._report

    def _jobs(self, listing: Listing) -> list[Job]:
        """A job for each image; names are computed over the whole listing, so that shards agree."""
        jobs = [
            Job(image, listing.folder / image, {CAM: [self._output / f"_{CAM}" / name]} if CAM in self._save else {})
            for image, name in mask_names(listing.images).items()
        ]
        check_jobs(jobs)
        return jobs

    def _table(self, *, keep: bool, replace: bool) -> ClassTable:
        path = self._output / self._shard.file_name(PREDICTIONS)
        if path.exists() and not (keep or replace):
            raise ConfigError(
                f"{printable(path)} is there already. Give --skip-existing, --overwrite or another --output."
            )
        return ClassTable(path, self._top, keep=keep)

    def _note(self, outcome: ClassOutcome, table: ClassTable) -> None:
        if outcome.prediction is None:
            self._report.fail(outcome.job.image, outcome.fault or "not classified")
            return
        self._report.written.append(outcome.job.image)
        table.add(outcome.job.name, outcome.prediction)

    def _finish(self, jobs: Sequence[Job], table: ClassTable) -> None:
        place = {job.image: number for number, job in enumerate(jobs)}
        self._report.written.sort(key=place.__getitem__)
        table.finish(job.name for job in jobs)
        best = Counter(table.best(job.name) for job in jobs if job.name in table)
        self._report.write_facts(
            {
                "input": printable(self._source),
                "shard": f"{self._shard.index}/{self._shard.count}",
                "save": list(self._save),
                "checkpoint": printable(self._predictor.source.path),
                "classes": {name: {"images": best[name]} for name in self._predictor.labels.names},
            }
        )
