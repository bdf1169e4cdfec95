"""Training, as a user asks for it: `train` and `check`."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from lightning import Callback
from lightning.pytorch.loggers import Logger

from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.classification import AnyRunConfig
from segzoo.errors import TrainingError
from segzoo.escapes import show_log
from segzoo.tasks.processes import is_first_process
from segzoo.tasks.task import ids_of, parts_of
from segzoo.training.faults import faults_explained
from segzoo.training.launch import with_processes
from segzoo.training.run import Guests, TrainResult, prepare, train_run
from segzoo.training.stages import checked_stages, stage_configs, train_stages


def train(
    config: AnyRunConfig,
    *,
    name: str = "run",
    resume: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> TrainResult:
    """Train, validate and save by a configuration.

    What it is at goes to standard error as `segzoo.escapes.show_log` says: a line at the start, each minute and each
    validation; a bar, too, in a terminal.

    With `trainer.devices` above 1 the other processes run this script again; each of them returns from here, and
    `segzoo.is_first_process()` says which one should print.

    Args:
        config: the resolved run.
        name: names the default run directory, runs/<name>/<time>.
        resume: run directory to go on with; `config` has to be its configuration.
        callbacks: of Lightning's kind, which see a step after it was noted and saved.
        loggers: of Lightning's kind, beside those of `trainer.loggers`.

    Raises:
        ConfigError: the request cannot be met; nothing is written.
        DataError: the data set's content is wrong.
        TrainingError: the loss is not finite, or memory, a data worker or another process was lost.
        CheckpointError: saving failed, the checkpoint before is untouched; or nothing to resume can be read.
        InterruptedTrainingError: a signal stopped the run, which is saved.
    """
    show_log()
    config = with_processes(config)
    if not is_first_process():
        logging.getLogger("segzoo").setLevel(logging.ERROR)
    run = train_stages if config.stages else train_run
    resumed = None if resume is None else Path(resume)
    return run(config, name=name, resume=resumed, guests=Guests(callbacks, loggers))


def check(config: AnyRunConfig) -> str:
    """Build everything, read one batch and run it; train nothing, write nothing.

    Returns:
        What was built and read, in one line for each stage.

    Raises:
        ConfigError: as `train`.
        DataError: as `train`.
    """
    config = with_processes(config)
    if not config.stages:
        return _check_run(with_starting_settings(config))
    stages = enumerate(stage_configs(checked_stages(config)), 1)
    return "\n".join(f"stage {number}: {_check_run(_without_weights(stage, number))}" for number, stage in stages)


def _without_weights(stage: AnyRunConfig, number: int) -> AnyRunConfig:
    """A stage as it can be tried now: the network that the later ones begin with is not there yet."""
    if number == 1:
        return stage
    backbone = stage.model.backbone.model_copy(update={"weights": None})
    return stage.model_copy(update={"model": stage.model.model_copy(update={"backbone": backbone, "weights": None})})


def _check_run(config: AnyRunConfig) -> str:
    config, data, task = prepare(config, None)
    with faults_explained():
        batch = next(iter(data.train_dataloader()))
        parts = parts_of(batch, config.trainer.accumulate)
        weighted = zip(parts, task.loss_weights(parts), strict=True)
        loss = sum(weight.item() * task.loss_of(part).item() for part, weight in weighted)
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss}, for the images {', '.join(ids_of(batch))}")
    parameters = sum(parameter.numel() for parameter in task.parameters())
    shape = "×".join(map(str, batch["image"].shape))
    return (
        f"ok: {len(data.train_dataset)} training and {len(data.val_dataset)} validation images, "
        f"{data.labels.num_classes} classes; {parameters:,} parameters; {data.steps} steps; "
        f"first batch {shape}, loss {loss:.3f}"
    )
