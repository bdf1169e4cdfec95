"""One run, from configuration to run directory: what `train` does once, and for each stage."""

import logging
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import seed_everything

from segzoo.checkpoint.transfer import WholeNetwork, read_network, start_from, with_starting_settings
from segzoo.config.schema import RunConfig
from segzoo.data.datamodule import SegmentationData
from segzoo.data.doctor.quick import quick_check
from segzoo.data.labels import LabelSpace
from segzoo.data.statistics import balanced_weights, class_pixels
from segzoo.models.limits import check_training
from segzoo.tasks.confusion import Scores
from segzoo.tasks.processes import is_first_process
from segzoo.training.boards import check_boards
from segzoo.training.curves import draw_curves
from segzoo.training.faults import faults_explained
from segzoo.training.launch import other_processes
from segzoo.training.resume import Start, newest_checkpoint, refuse_other_classes
from segzoo.training.run_dir import RunDir, already_finished, finished_step, new_run_dir, resumed_run_dir, write_json
from segzoo.training.task import RunTask, check_compiler
from segzoo.training.trainer import Watchers, build_trainer, quiet_lightning, watchers_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind.

    Args:
        run_dir: its folder.
        labels: classes of the data set.
        scores: of the last validation.
        summary: what summary.json says.
    """

    run_dir: Path
    labels: LabelSpace
    scores: Scores
    summary: dict[str, Any]


def train_run(config: RunConfig, *, name: str, resume: Path | None = None, whole: RunDir | None = None) -> TrainResult:
    """Train, validate and save, without stages; errors as `train`.

    Args:
        config: the resolved run, with the processes that it has.
        name: names the default run directory.
        resume: run directory to go on with.
        whole: the run that this one is a stage of.
    """
    with ExitStack() as stack:
        if resume is not None:
            run_dir = stack.enter_context(resumed_run_dir(resume))
            start = newest_checkpoint(run_dir, config)
            config, data, task = prepare(config, start)
            if start and start.step >= (finished_step(run_dir) or math.inf):
                raise already_finished(run_dir)
        else:
            start = None
            config, data, task = prepare(with_starting_settings(config), None)
            run_dir = stack.enter_context(new_run_dir(config, name))
        run_dir.whole = whole
        logger.info("run directory: %s", run_dir.path)
        return _fit(config, data, task, run_dir, start)


def build_data(config: RunConfig) -> SegmentationData:
    """The data of a run.

    Raises:
        ConfigError: no such data set or split, or fewer images than a batch.
        DataError: the data set's content is wrong.
    """
    return SegmentationData(
        config.data,
        accumulate=config.trainer.accumulate,
        steps=config.trainer.max_steps,
        epochs=config.trainer.max_epochs,
        seed=config.seed,
        eval_batch_size=config.evaluation.batch_size,
    )


def with_balanced_weights(config: RunConfig, data: SegmentationData) -> RunConfig:
    """The configuration with `loss.class_weights: balanced` turned into numbers, so that the run describes itself."""
    if config.loss.class_weights != "balanced":
        return config
    weights = balanced_weights(class_pixels(data.train_dataset))
    return config.model_copy(update={"loss": config.loss.model_copy(update={"class_weights": weights})})


def check_request(config: RunConfig) -> None:
    """Refuse what cannot be trained here, before data are read and the network is built.

    Raises:
        ConfigError: boards or a compiler that are not installed, or what the decoder cannot learn from.
    """
    check_boards(config)
    check_compiler(config)
    images = config.data.batch_size // (config.trainer.devices * config.trainer.num_nodes)
    check_training(config.model, images, config.data.crop_size)


def prepare(config: RunConfig, start: Start | None) -> tuple[RunConfig, SegmentationData, RunTask]:
    """Data and network of a run; weights only where no checkpoint follows. What cannot be trained is refused first."""
    check_request(config)
    if start is None and is_first_process():
        quick_check(config.data)
    seed_everything(config.seed, verbose=False)
    data = build_data(config)
    config = with_balanced_weights(config, data)
    if start is not None:
        refuse_other_classes(start, data.labels)
        data.start_step = start.step
    network: WholeNetwork | None = None
    if start is None and config.model.weights is not None:
        network = read_network(config.model.weights)
    task = RunTask(config, data.labels, data.steps, pretrained=start is None and network is None)
    if network is not None:
        start_from(network, task.segmenter, config.model, data.labels)
    return config, data, task


def _fit(config: RunConfig, data: SegmentationData, task: RunTask, run_dir: RunDir, start: Start | None) -> TrainResult:
    watchers = watchers_of(config, data, run_dir)
    began = time.perf_counter()
    with quiet_lightning(), faults_explained(), other_processes(config), watchers.signals.listening():
        trainer = build_trainer(config, data, watchers.all)
        try:
            trainer.fit(task, data, ckpt_path=start.path if start else None, weights_only=True)
        finally:
            watchers.close()
    scores = task.scores or Scores(None, None, (None,) * data.labels.num_classes)
    summary = _summary(config, data, watchers, scores, trainer.global_step, time.perf_counter() - began)
    if is_first_process():
        with faults_explained():
            write_json(run_dir.summary, summary)
            draw_curves(run_dir.metrics, run_dir.curves)
    return TrainResult(run_dir.path, data.labels, scores, summary)


def _summary(
    config: RunConfig, data: SegmentationData, watchers: Watchers, scores: Scores, steps: int, seconds: float
) -> dict[str, Any]:
    return {
        "best_val_miou": watchers.checkpoints.best_miou,
        "best_step": watchers.checkpoints.best_step,
        "last_val_miou": scores.miou,
        "epoch": round(steps * config.images_per_step / len(data.train_dataset), 3),
        "steps": steps,
        "seconds": round(seconds, 2),
        "images_per_second": round(watchers.clock.images_per_second, 3),
    }
