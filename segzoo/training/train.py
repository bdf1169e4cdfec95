"""A run from configuration to run directory."""

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
from segzoo.errors import ConfigError
from segzoo.models.limits import check_training
from segzoo.tasks.confusion import Scores
from segzoo.tasks.processes import is_first_process
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.boards import check_boards
from segzoo.training.curves import draw_curves
from segzoo.training.faults import faults_explained
from segzoo.training.launch import other_processes, with_processes
from segzoo.training.resume import Start, newest_checkpoint, refuse_other_classes
from segzoo.training.run_dir import RunDir, finished_step, new_run_dir, resumed_run_dir, write_json
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


def train(config: RunConfig, *, name: str = "run", resume: str | Path | None = None) -> TrainResult:
    """Train, validate and save by a configuration.

    With `trainer.devices` above 1 the other processes run this script again; each of them returns from here, and
    `segzoo.is_first_process()` says which one should print.

    Args:
        config: the resolved run.
        name: names the default run directory, runs/<name>/<time>.
        resume: run directory to go on with; `config` has to be its configuration.

    Raises:
        ConfigError: the request cannot be met; nothing is written.
        DataError: the data set's content is wrong.
        TrainingError: the loss is not finite, or memory, a data worker or another process was lost.
        CheckpointError: saving failed, the checkpoint before is untouched; or nothing to resume can be read.
        InterruptedTrainingError: a signal stopped the run, which is saved.
    """
    config = with_processes(config)
    if not is_first_process():
        logging.getLogger("segzoo").setLevel(logging.ERROR)
    with ExitStack() as stack:
        if resume is not None:
            run_dir = stack.enter_context(resumed_run_dir(Path(resume)))
            start = newest_checkpoint(run_dir, config)
            config, data, task = prepare(config, start)
            if start and start.step >= (finished_step(run_dir) or math.inf):
                raise ConfigError(f"--resume: the run in {run_dir.path} is finished; nothing is left to do.")
        else:
            start = None
            config, data, task = prepare(with_starting_settings(config), None)
            run_dir = stack.enter_context(new_run_dir(config, name))
        logger.info("run directory: %s", run_dir.path)
        return _fit(config, data, task, run_dir, start)


def check(config: RunConfig) -> str:
    """Build everything, read one batch and run it; train nothing, write nothing.

    Returns:
        What was built and read, in one line.

    Raises:
        ConfigError: as `train`.
        DataError: as `train`.
    """
    config, data, task = prepare(with_starting_settings(with_processes(config)), None)
    with faults_explained():
        batch = next(iter(data.train_dataloader()))
        loss = task.training_step(batch, 0)
    parameters = sum(parameter.numel() for parameter in task.parameters())
    shape = "×".join(map(str, batch["image"].shape))
    return (
        f"ok: {len(data.train_dataset)} training and {len(data.val_dataset)} validation images, "
        f"{data.labels.num_classes} classes; {parameters:,} parameters; {data.steps} steps; "
        f"first batch {shape}, loss {loss.item():.3f}"
    )


def build_data(config: RunConfig) -> SegmentationData:
    """The data of a run.

    Raises:
        ConfigError: no such data set or split, or fewer images than a batch.
        DataError: the data set's content is wrong.
    """
    return SegmentationData(
        config.data,
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


def prepare(config: RunConfig, start: Start | None) -> tuple[RunConfig, SegmentationData, SegmentationTask]:
    """Data and network of a run; weights only where no checkpoint follows. What cannot be trained is refused first."""
    check_boards(config)
    check_training(config.model, config.data.batch_size // (config.trainer.devices * config.trainer.num_nodes))
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
    task = SegmentationTask(config, data.labels, data.steps, pretrained=start is None and network is None)
    if network is not None:
        start_from(network, task.segmenter, config.model, data.labels)
    return config, data, task


def _fit(
    config: RunConfig, data: SegmentationData, task: SegmentationTask, run_dir: RunDir, start: Start | None
) -> TrainResult:
    watchers = watchers_of(config, data, run_dir)
    began = time.perf_counter()
    with quiet_lightning(), faults_explained(), other_processes(config), watchers.signals.listening():
        trainer = build_trainer(config, data, watchers.all)
        try:
            trainer.fit(task, data, ckpt_path=start.path if start else None, weights_only=True)
        finally:
            watchers.close()
    scores = task.scores or Scores(None, None, ())
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
        "epoch": round(steps * config.data.batch_size / len(data.train_dataset), 3),
        "steps": steps,
        "seconds": round(seconds, 2),
        "images_per_second": round(watchers.clock.images_per_second, 3),
    }
