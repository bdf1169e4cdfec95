"""Lightning's Trainer, set up so that it does what `segzoo.training` promises."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from segzoo.checkpoint.write import AtomicCheckpointIO
from segzoo.config.classification import AnyRunConfig
from segzoo.tasks.metrics import score_names
from segzoo.tasks.specs import task_spec
from segzoo.training.boards import Boards
from segzoo.training.build import RunData
from segzoo.training.callbacks import OneRun, SeededSteps, TrainingClock
from segzoo.training.checkpoints import Checkpoints
from segzoo.training.launch import shares_batchnorm
from segzoo.training.metrics_file import MetricsFile
from segzoo.training.overlays import Overlays
from segzoo.training.progress import ProgressReport
from segzoo.training.run_dir import RunDir
from segzoo.training.signals import StopOnSignal
from segzoo.training.validations import EarlyStopping, Validations

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Watchers:
    """The callbacks of a run; `all` has them in the order in which they act on a step."""

    all: list[Callback]
    clock: TrainingClock
    checkpoints: Checkpoints
    progress: ProgressReport
    signals: StopOnSignal
    boards: Boards
    validations: Validations

    def memory_advice(self, config: AnyRunConfig) -> Callable[[], str | None]:
        """What helps where memory runs out in a validation."""
        return partial(self.validations.memory_advice, config)

    def close(self) -> None:
        """Let go of the terminal and of what is open elsewhere."""
        self.progress.close()
        self.boards.close()


def watchers_of(config: AnyRunConfig, data: RunData, run_dir: RunDir) -> Watchers:
    """The callbacks of a run."""
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
    boards = Boards(run_dir, config)
    one_run = OneRun(run_dir, data.start_step)
    validations = Validations(every, steps, checkpoints, clock)
    stopping = [EarlyStopping(settings.early_stopping)] if settings.early_stopping else []
    order = [one_run, clock, SeededSteps(config.seed), metrics, progress, *stopping]
    draws = task_spec(config).draws
    overlays = [Overlays(run_dir, data.val_dataset, settings.overlay_images)] if draws else []
    order += [checkpoints, signals, *overlays, boards, validations]
    return Watchers(order, clock, checkpoints, progress, signals, boards, validations)


def steps_between_validations(config: AnyRunConfig, data: RunData) -> int:
    """What `trainer.val_every_steps` says, or a pass over the training split."""
    return config.trainer.val_every_steps or max(1, len(data.train_dataset) // config.images_per_step)


def build_trainer(config: AnyRunConfig, data: RunData, callbacks: list[Callback], *, validates: bool = True) -> Trainer:
    """The Trainer of a run: one pass of the loader is the whole run (see data/sampling.py)."""
    settings = config.trainer
    several = settings.devices * settings.num_nodes > 1 or settings.strategy == "ddp"
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # `StopOnSignal` handles signals
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        # Buffers are shared at the start of a validation (Task): with every forward pass, as DDP does it, processes
        # with unequal numbers of validation images would wait for each other for ever.
        strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
        sync_batchnorm=shares_batchnorm(config),
        precision=PRECISION[settings.precision],
        max_epochs=1,
        val_check_interval=steps_between_validations(config, data),
        check_val_every_n_epoch=None,
        limit_val_batches=None if validates else 0,
        log_every_n_steps=settings.log_every_steps,
        callbacks=callbacks,
        plugins=plugins,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
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
