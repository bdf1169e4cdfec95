"""The runs of the experiments: planned, held against what is there, trained one after the other."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laboratory.experiments.paper import Experiment, Variant
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.load import config_from_tree
from segzoo.errors import ConfigError, InterruptedTrainingError, TrainingError
from segzoo.tasks.names import known_names
from segzoo.training.resume import check_same_run, saved_tree
from segzoo.training.run_dir import RunDir
from segzoo.training.train import train

VALIDATIONS = 8
"""In a run, where `trainer.val_every_steps` does not say otherwise: points of a curve."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One network, one seed.

    Args:
        variant: the network.
        config: with its switch, its seed and its folder.
        folder: where it trains.
    """

    variant: Variant
    config: ClassificationRunConfig
    folder: RunDir

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.folder.summary.is_file()


def plan_runs(config: AnyRunConfig, experiments: Sequence[Experiment], *, seeds: int, output: Path) -> list[Run]:
    """The runs of experiments; a network that several of them have is trained once.

    All networks of one seed come before the next seed, so that what is stopped early can be compared.

    Args:
        config: what the runs share, with the paper's network and the first seed.
        experiments: which.
        seeds: runs of each network.
        output: gets a folder for each run.

    Raises:
        ConfigError: not fit for comparing networks, or runs that are there have another configuration.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds: {seeds}; it must be at least 1.")
    shared = _checked(config)
    variants = dict.fromkeys(variant for experiment in experiments for variant in experiment.variants)
    runs = [_run(shared, variant, shared.seed + number, output) for number in range(seeds) for variant in variants]
    for run in runs:
        _refuse_other_settings(run, output)
    return runs


def train_runs(runs: Sequence[Run]) -> list[str]:
    """Train what is not finished, going on where a run was stopped.

    Returns:
        A line for each run that could not be finished, such as one whose loss was no longer finite.

    Raises:
        InterruptedTrainingError: a signal stopped it; what was trained is saved.
    """
    failed, seconds, left = [], 0.0, [run for run in runs if not run.finished]
    if len(left) < len(runs):
        logger.info("%d of %d runs are finished already", len(runs) - len(left), len(runs))
    for number, run in enumerate(left):
        remaining = f", about {seconds / number * (len(left) - number) / 60:.0f} min to go" if number else ""
        logger.info("run %d of %d: %s%s", number + 1, len(left), run.folder.path, remaining)
        began = time.perf_counter()
        try:
            _train(run)
        except TrainingError as error:
            failed.append(f"{run.folder.path}: {error}")
            logger.warning("%s", failed[-1])
        seconds += time.perf_counter() - began
    return failed


def _train(run: Run) -> None:
    resume = run.folder.path if run.folder.config.is_file() else None
    try:
        train(run.config, resume=resume)
    except InterruptedTrainingError as error:
        advice = f"{run.folder.path}: stopped; what was trained is saved. The same command goes on."
        raise InterruptedTrainingError(error.exit_status - 128, advice) from None


def _run(shared: ClassificationRunConfig, variant: Variant, seed: int, output: Path) -> Run:
    folder = RunDir(output / "runs" / variant.name / f"seed_{seed}")
    backbone = shared.model.backbone.model_copy(update=dict(variant.switch))
    model = shared.model.model_copy(update={"backbone": backbone})
    config = shared.model_copy(update={"model": model, "seed": seed, "run_dir": str(folder.path)})
    return Run(variant, config, folder)


def _checked(config: AnyRunConfig) -> ClassificationRunConfig:
    """The configuration, if it can be compared with itself, with its validations spread over the run."""
    if not isinstance(config, ClassificationRunConfig):
        raise ConfigError(f"task: {config.task}; the paper's experiments are of task classification.")
    problems = [line for wrong, line in _unfit(config) if wrong]
    steps = config.trainer.max_steps
    if problems or steps is None:
        raise ConfigError(problems)
    every = config.trainer.val_every_steps or max(1, steps // VALIDATIONS)
    trainer = config.trainer.model_copy(update={"val_every_steps": every})
    return config.model_copy(update={"trainer": trainer})


def _unfit(config: ClassificationRunConfig) -> list[tuple[bool, str]]:
    trainer, backbone, model = config.trainer, config.model.backbone, config.model
    switched = backbone.model_dump(include={"residual", "depthwise_activation", "depth_multiplier", "channel_segments"})
    papers = {key: type(backbone).model_fields[key].default for key in switched}
    return [
        (config.data.csv.multi_label, "data.csv.multi_label: the experiments compare top-1; take images of one class."),
        (bool(config.stages), "stages: the experiments are single runs; leave them out."),
        (trainer.max_steps is None, "trainer.max_steps: missing; curves are compared step by step."),
        (trainer.early_stopping is not None, "trainer.early_stopping: all curves are equally long; leave it out."),
        (trainer.devices * trainer.num_nodes > 1, "trainer.devices: the runs are small, each takes one."),
        (
            model.weights is not None or backbone.weights is not None,
            "model.weights, model.backbone.weights: the experiments start from random weights; leave them out.",
        ),
        (switched != papers, f"model.backbone: {', '.join(switched)} are what the experiments switch; leave them out."),
    ]


def _refuse_other_settings(run: Run, output: Path) -> None:
    if not run.folder.config.is_file():
        return
    there = config_from_tree(saved_tree(run.folder), known_names=known_names())
    check_same_run(there, run.config, f"All runs in --output {output} share one configuration")
