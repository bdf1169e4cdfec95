"""A run from configuration to run directory."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything

from segzoo.backbones.weights import with_weights_settings
from segzoo.checkpoint.write import AtomicCheckpointIO
from segzoo.config.schema import RunConfig
from segzoo.data.datamodule import SegmentationData
from segzoo.data.labels import LabelSpace
from segzoo.data.statistics import balanced_weights, class_pixels
from segzoo.errors import ConfigError
from segzoo.tasks.confusion import Scores
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.callbacks import Checkpoints, MetricsFile, SeededSteps, StopOnSignal, TrainingClock
from segzoo.training.progress import ProgressReport
from segzoo.training.resume import last_checkpoint
from segzoo.training.run_dir import RunDir, create_run_dir, open_run_dir, write_json

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


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

    Args:
        config: the resolved run.
        name: names the default run directory, runs/<name>/<time>.
        resume: run directory to go on with; `config` has to be its configuration.

    Raises:
        ConfigError: the request cannot be met; nothing is written.
        DataError: the data set's content is wrong.
        TrainingError: the loss is not finite.
        CheckpointError: saving failed; the checkpoint before is untouched.
    """
    _check_devices(config)
    if resume is None:
        config = with_weights_settings(config)
    seed_everything(config.seed, verbose=False)
    data = build_data(config)
    config = with_balanced_weights(config, data)
    task = SegmentationTask(config, data.labels, data.steps, pretrained=resume is None)
    run_dir = create_run_dir(config, name) if resume is None else open_run_dir(Path(resume))
    if resume is not None:
        data.start_step = last_checkpoint(run_dir, config)["segzoo"]["step"]
        if data.start_step >= data.steps and run_dir.summary.exists():
            raise ConfigError(f"--resume: the run in {run_dir.path} is finished; nothing is left to do.")
    logging.getLogger(__name__).info("run directory: %s", run_dir.path)
    return _fit(config, data, task, run_dir)


def check(config: RunConfig) -> str:
    """Build everything, read one batch and run it; train nothing, write nothing.

    Returns:
        What was built and read, in one line.

    Raises:
        ConfigError: as `train`.
        DataError: as `train`.
    """
    _check_devices(config)
    config = with_weights_settings(config)
    seed_everything(config.seed, verbose=False)
    data = build_data(config)
    task = SegmentationTask(with_balanced_weights(config, data), data.labels, data.steps)
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


def _fit(config: RunConfig, data: SegmentationData, task: SegmentationTask, run_dir: RunDir) -> TrainResult:
    clock = TrainingClock(config.data.batch_size)
    checkpoints = Checkpoints(run_dir)
    samples = len(data.train_dataset)
    metrics = MetricsFile(
        run_dir.metrics,
        data.labels.names,
        clock,
        log_every_steps=config.trainer.log_every_steps,
        samples=samples,
        step=data.start_step,
    )
    progress = ProgressReport(data.steps, clock, show_bar=config.trainer.progress)
    callbacks = [clock, SeededSteps(config.seed), metrics, checkpoints, progress, StopOnSignal(run_dir)]
    began = time.perf_counter()
    with _quiet_lightning():
        trainer = _build_trainer(config, data, callbacks)
        try:
            trainer.fit(task, data, ckpt_path=run_dir.last if data.start_step else None, weights_only=True)
            if checkpoints.validated_step != data.steps:
                trainer.validate(task, data, verbose=False)
        finally:
            progress.close()
    scores = task.scores or Scores(None, None, ())
    summary = {
        "best_val_miou": checkpoints.best_miou,
        "best_step": checkpoints.best_step,
        "last_val_miou": scores.miou,
        "epoch": round(data.steps * config.data.batch_size / samples, 3),
        "steps": data.steps,
        "seconds": round(time.perf_counter() - began, 2),
        "images_per_second": round(clock.images_per_second, 3),
    }
    write_json(run_dir.summary, summary)
    return TrainResult(run_dir.path, data.labels, scores, summary)


def _build_trainer(config: RunConfig, data: SegmentationData, callbacks: list[Any]) -> Trainer:
    settings = config.trainer
    pass_over_data = max(1, len(data.train_dataset) // config.data.batch_size)
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=PRECISION[settings.precision],
        max_steps=data.steps,
        # One pass of the loader is the whole run (see data/sampling.py), so validation counts steps.
        val_check_interval=min(settings.val_every_steps or pass_over_data, data.steps),
        check_val_every_n_epoch=None,
        gradient_clip_val=settings.clip_norm,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _check_devices(config: RunConfig) -> None:
    if config.trainer.devices != 1:
        raise ConfigError("trainer.devices: this version trains on one device. Take trainer.devices=1.")
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator: no CUDA GPU is visible here. Take auto or cpu.")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's announcements, and without its advice that does not hold here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # The number of workers is data.num_workers, chosen on purpose: 0 is faster for the synthetic set.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # One pass of the loader is the whole run, and our sampler starts where the run stopped.
        warnings.filterwarnings("ignore", message=".*is not resumable.*")
        # Lightning 2.6 uses torch's pytree in a way that torch 2.15 deprecates; nothing of ours is concerned.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
