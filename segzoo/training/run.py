"""One run, from configuration to run directory: what `train` does once, and for each stage."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, seed_everything
from lightning.pytorch.loggers import Logger

from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.classification import AnyRunConfig
from segzoo.data.class_balance import balanced_weights, class_pixels
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import CheckpointError, InterruptedTrainingError, SegzooError, first_line
from segzoo.tasks.metrics import AnyScores, MainMetric, no_scores
from segzoo.tasks.processes import is_first_process
from segzoo.tasks.task import Task
from segzoo.training.build import RunData, build_data, build_task, check_files, check_request
from segzoo.training.faults import faults_explained
from segzoo.training.launch import other_processes
from segzoo.training.loggers import build_loggers, start_loggers
from segzoo.training.metrics_file import write_curves
from segzoo.training.resume import (
    Start,
    check_classes,
    check_images,
    keep_config,
    newest_checkpoint,
)
from segzoo.training.run_dir import RunDir, already_finished, finished_summary, new_run_dir, resumed_run_dir, write_json
from segzoo.training.trainer import RunCallbacks, build_trainer, check_strategy, quiet_lightning, run_callbacks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind.

    Args:
        run_dir: its folder.
        labels: classes of the data set.
        scores: of the last validation: `Scores`, or of a classifier `ClassificationScores`.
        summary: what summary.json says.
        main_metric: the number in it by which checkpoints are compared.
    """

    run_dir: Path
    labels: LabelSpace
    scores: AnyScores
    summary: dict[str, Any]
    main_metric: MainMetric


@dataclass(frozen=True)
class Guests:
    """What a script of a user's adds to a run.

    Args:
        callbacks: of Lightning's kind.
        loggers: of Lightning's kind, beside those of `trainer.loggers`.
    """

    callbacks: Sequence[Callback] = ()
    loggers: Sequence[Logger] = ()


def train_run(
    config: AnyRunConfig,
    *,
    name: str,
    resume: Path | None = None,
    whole: RunDir | None = None,
    guests: Guests = Guests(),
) -> TrainResult:
    """Train, validate and save, without stages; errors as `train`.

    Args:
        config: the resolved run, with the processes that it has.
        name: names the default run directory.
        resume: run directory to go on with.
        whole: the run that this one is a stage of.
        guests: callbacks and loggers of the user's.
    """
    with ExitStack() as stack:
        if resume is not None:
            run_dir = stack.enter_context(resumed_run_dir(resume))
            start = newest_checkpoint(run_dir, config)
            finished = finished_summary(run_dir)
            if start and finished and start.step >= finished["steps"]:  # which can be an early one
                raise already_finished(run_dir)
            keep_config(run_dir, config)
            if start is None and is_first_process():
                logger.warning(
                    "%s: no checkpoint was saved in it yet, so the run begins at its first step", run_dir.path
                )
            config, data, task = prepare(config, start)
        else:
            start = None
            config, data, task = prepare(with_starting_settings(config), None)
            run_dir = stack.enter_context(new_run_dir(config, name))
        if is_first_process():
            with faults_explained():
                check_images(run_dir, data)
        run_dir.whole = whole
        logger.info("run directory: %s", run_dir.path)
        return _fit(config, data, task, run_dir, start, guests)


def with_balanced_weights(config: AnyRunConfig, data: RunData) -> AnyRunConfig:
    """The configuration with `loss.class_weights: balanced` turned into numbers, so that the run describes itself."""
    if config.loss.class_weights != "balanced":
        return config
    weights = balanced_weights(class_pixels(data.train_dataset))
    return config.model_copy(update={"loss": config.loss.model_copy(update={"class_weights": weights})})


def prepare(config: AnyRunConfig, start: Start | None) -> tuple[AnyRunConfig, RunData, Task]:
    """Data and network of a run; weights only where no checkpoint follows. What cannot be trained is refused first."""
    check_strategy(config)
    check_request(config)
    if start is None and is_first_process():
        check_files(config)
    seed_everything(config.seed, verbose=False)
    data = build_data(config)
    config = with_balanced_weights(config, data)
    if start is not None:
        check_classes(start, data.labels)
        data.start_step = start.step
    return config, data, build_task(config, data, pretrained=start is None)


def _fit(
    config: AnyRunConfig, data: RunData, task: Task, run_dir: RunDir, start: Start | None, guests: Guests
) -> TrainResult:
    callbacks = run_callbacks(config, data, run_dir, guests.callbacks)
    began = time.perf_counter()
    try:
        with (
            quiet_lightning(),
            faults_explained(partial(callbacks.validations.memory_advice, config)),
            other_processes(config),
            callbacks.signals.listening(),
        ):
            loggers = [*build_loggers(config, run_dir), *guests.loggers]
            trainer = build_trainer(config, data, callbacks.all, loggers, run_dir)
            start_loggers(loggers, config)
            try:
                trainer.fit(task, data, ckpt_path=start.path if start else None, weights_only=True)
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                if start is None or callbacks.clock.is_started or isinstance(error, SegzooError):
                    raise
                raise CheckpointError(
                    f"{start.path}: training cannot go on from it ({first_line(error)}). Move it away to go on from an "
                    "older checkpoint of the run."
                ) from error
            finally:
                callbacks.progress.close()
    except InterruptedTrainingError:
        _draw(task, run_dir)
        raise
    summary = _summary(task, data, callbacks, start, trainer.global_step, time.perf_counter() - began)
    _draw(task, run_dir)
    if is_first_process():
        with faults_explained():
            write_json(run_dir.summary, summary)  # last: it says that nothing is left to do
    scores = no_scores(config, data.labels) if task.scores is None else task.scores
    return TrainResult(run_dir.path, data.labels, scores, summary, task.main_metric)


def _draw(task: Task, run_dir: RunDir) -> None:
    if is_first_process():
        with faults_explained():
            write_curves(run_dir.metrics, task.main_metric, run_dir.curves)


def _summary(
    task: Task, data: RunData, callbacks: RunCallbacks, start: Start | None, steps: int, seconds: float
) -> dict[str, Any]:
    name = task.main_metric.name
    known = start.metrics.get(f"val/{name}") if start else None  # to a run that had nothing left but this
    return {
        f"best_val_{name}": callbacks.checkpoints.best_score,
        "best_step": callbacks.checkpoints.best_step,
        f"last_val_{name}": known if task.scores is None else task.main_score,
        "epoch": round(steps * task.config.images_per_step / len(data.train_dataset), 3),
        "steps": steps,
        "seconds": round(seconds, 2),
        "images_per_second": round(callbacks.clock.images_per_second, 3),
    }
