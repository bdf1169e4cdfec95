"""Lightning's Trainer, set up so that it does what `segzoo.training` promises."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy, StrategyRegistry

from segzoo.checkpoint.write import AtomicCheckpointIO
from segzoo.config.classification import AnyRunConfig
from segzoo.errors import ConfigError, did_you_mean
from segzoo.tasks.metrics import score_names
from segzoo.training.build import RunData, task_spec
from segzoo.training.callbacks import OneRun, Overlays, SeededSteps, TrainingClock
from segzoo.training.checkpoints import Checkpoints, StopOnSignal
from segzoo.training.launch import shares_batchnorm
from segzoo.training.metrics_file import MetricsFile
from segzoo.training.progress import ProgressReport
from segzoo.training.run_dir import RunDir
from segzoo.training.validations import EarlyStopping, Validations

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_UNFIT = ("spawn", "fork", "notebook", "xla", "tpu")  # strategies that start processes as `launch` does, or for TPUs
_SHARDED = ("fsdp", "deepspeed")  # no process has the whole network


@dataclass(frozen=True)
class RunCallbacks:
    """The callbacks of a run; `all` has them in the order in which they act on a step."""

    all: list[Callback]
    clock: TrainingClock
    checkpoints: Checkpoints
    progress: ProgressReport
    signals: StopOnSignal
    validations: Validations


def run_callbacks(
    config: AnyRunConfig, data: RunData, run_dir: RunDir, others: Sequence[Callback] = ()
) -> RunCallbacks:
    """The callbacks of a run, and `others` among them, which see a step that is noted and saved."""
    settings = config.trainer
    samples, steps = len(data.train_dataset), data.steps
    clock = TrainingClock(config.images_per_step)
    checkpoints = Checkpoints(
        run_dir, clock, save_every_steps=settings.save_every_steps, keep_every_steps=settings.keep_every_steps
    )
    metrics = MetricsFile(
        run_dir,
        score_names(config, data.labels),
        clock,
        log_every_steps=settings.log_every_steps,
        samples=samples,
        step=data.start_step,
    )
    every = steps_between_validations(config, data)
    progress = ProgressReport(steps, every, clock, show_bar=settings.progress)
    signals = StopOnSignal(checkpoints)
    validations = Validations(every, steps, checkpoints, clock)
    stopping = [EarlyStopping(settings.early_stopping)] if settings.early_stopping else []
    order: list[Callback] = [OneRun(run_dir, data.start_step), clock, SeededSteps(config.seed), metrics, progress]
    order += [*stopping, checkpoints, signals]
    if task_spec(config).draws:
        order.append(Overlays(run_dir, data.val_dataset, settings.overlay_images))
    order += [*others, validations]
    return RunCallbacks(order, clock, checkpoints, progress, signals, validations)


def steps_between_validations(config: AnyRunConfig, data: RunData) -> int:
    """What `trainer.val_every_steps` says, or a pass over the training split."""
    return config.trainer.val_every_steps or max(1, len(data.train_dataset) // config.images_per_step)


def build_trainer(
    config: AnyRunConfig,
    data: RunData,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger] = (),
    run_dir: RunDir | None = None,
) -> Trainer:
    """The Trainer of a run: one pass of the loader is the whole run (see data/sampling.py).

    Args:
        config: the run.
        data: its data.
        callbacks: everything that goes on beside the steps.
        loggers: where numbers go.
        run_dir: where what Lightning writes goes; None for a Trainer that neither writes nor validates.
    """
    settings = config.trainer
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # `StopOnSignal` handles signals
    rates = [LearningRateMonitor(logging_interval="step")] if loggers else []
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=_strategy(config),
        sync_batchnorm=shares_batchnorm(config),
        precision=PRECISION[settings.precision],
        max_epochs=1,
        val_check_interval=steps_between_validations(config, data),
        check_val_every_n_epoch=None,
        limit_val_batches=0 if run_dir is None else None,
        log_every_n_steps=settings.log_every_steps,
        callbacks=[*rates, *callbacks],
        plugins=plugins,
        num_sanity_val_steps=0,
        logger=list(loggers),
        default_root_dir=None if run_dir is None else run_dir.path,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _strategy(config: AnyRunConfig) -> Strategy | str:
    """How processes train together.

    Buffers are shared at the start of a validation (`Task`): with every forward pass, as DDP does it, processes with
    unequal numbers of validation images would wait for each other for ever.
    """
    settings = config.trainer
    if settings.strategy == "auto" and settings.devices * settings.num_nodes == 1:
        return "auto"
    return DDPStrategy(broadcast_buffers=False) if settings.strategy in ("auto", "ddp") else settings.strategy


def check_strategy(config: AnyRunConfig) -> None:
    """Refuse a strategy that Lightning does not have, or that cannot keep what a run promises.

    Raises:
        ConfigError: which would.
    """
    name, known = config.trainer.strategy, ["auto", *StrategyRegistry.available_strategies()]
    usable = [other for other in known if not any(part in other for part in _UNFIT)]
    if name not in usable:
        raise ConfigError(f"trainer.strategy: no strategy {name!r} for a run. {did_you_mean(name, usable)}")
    if config.optimizer.ema_decay is not None and name.startswith(_SHARDED):
        raise ConfigError(
            f"trainer.strategy: {name} shares the weights out, and optimizer.ema_decay needs all. Take ddp."
        )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's announcements, and without its advice that does not hold here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # The number of workers is data.num_workers, chosen on purpose: 0 is faster for the synthetic set.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # One pass of the loader is the whole run, and our sampler starts where the run stopped.
        warnings.filterwarnings("ignore", message=".*is not resumable.*")
        # A frozen backbone, or its frozen modules, are meant to be.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        # The name in torch's releases up to 2.14, which we support too.
        warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated.*")
        # Lightning 2.6 uses torch's pytree in a way that torch 2.15 deprecates; nothing of ours is concerned.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
