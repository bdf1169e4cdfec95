"""Which configuration is asked for, and going on with a run: the same one, from the newest checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.checkpoint.read import read_checkpoint, read_description
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import apply_overrides, config_from_tree, load_config, read_yaml
from segzoo.config.stages import merged
from segzoo.data.labels import LabelSpace
from segzoo.errors import CheckpointError, ConfigError
from segzoo.tasks.names import known_names
from segzoo.training.run_dir import RunDir, open_run_dir

_logger = logging.getLogger(__name__)


def requested_config(
    config: str | None, overrides: Sequence[str] = (), resume: str | Path | None = None
) -> AnyRunConfig:
    """The configuration that a command line asks for.

    Args:
        config: YAML file; None only with `resume`.
        overrides: `key=value` changes.
        resume: run directory to go on with.

    Raises:
        ConfigError: every problem, one line each.
    """
    if resume is not None:
        return resumed_config(resume, config, overrides)
    if config is None:
        raise ConfigError("CONFIG: missing. Name a YAML file, such as configs/quickstart.yaml, or --resume RUN_DIR.")
    return load_config(config, overrides, known_names=known_names())


def resumed_config(run_dir: str | Path, config: str | None = None, overrides: Sequence[str] = ()) -> AnyRunConfig:
    """The configuration of a run to resume, which nothing on the command line may contradict.

    Args:
        run_dir: its folder.
        config: YAML file named beside it, or None.
        overrides: `key=value` changes named beside it.

    Raises:
        ConfigError: no run there, or the request contradicts it.
    """
    saved = saved_tree(open_run_dir(Path(run_dir)))
    # What the file leaves open is as the run found it: settings of weights, devices of torchrun, its first overrides.
    asked = apply_overrides(saved if config is None else merged(saved, read_yaml(Path(config))), overrides)
    names, reason = known_names(), "A resumed run keeps its configuration"
    before, now = (tree.get("task", "segmentation") for tree in (saved, asked))
    _refuse_other_task(before, now, reason)
    kept, new = (config_from_tree(tree, known_names=names) for tree in (saved, asked))
    if new.loss.class_weights == "balanced" and kept.loss.class_weights is not None:  # the run has the numbers
        weights = {"class_weights": kept.loss.class_weights}
        new = new.model_copy(update={"loss": new.loss.model_copy(update=weights)})
    refuse_differences(kept, new, reason)
    return kept


def saved_tree(run_dir: RunDir) -> dict[str, Any]:
    """The configuration of a run: config.yaml, or where that was damaged or lost, what a checkpoint knows of it.

    Raises:
        ConfigError: config.yaml cannot be read, and no checkpoint has the configuration.
    """
    try:
        return read_yaml(run_dir.config)
    except ConfigError as error:
        if run_dir.stage(0).path.exists():  # the checkpoints are a stage's, and know nothing of the others
            raise
        for path in run_dir.all_checkpoints():
            with suppress(CheckpointError):
                found = read_description(read_checkpoint(path), path).config
                _logger.warning("%s; going on with the configuration in %s", "; ".join(error.problems), path)
                return found.model_dump(mode="json")
        raise


@dataclass(frozen=True)
class Start:
    """Where a resumed run goes on.

    Args:
        path: the checkpoint.
        step: steps done in it.
        labels: classes it was trained on.
        metrics: of the newest validation before it.
    """

    path: Path
    step: int
    labels: LabelSpace
    metrics: Mapping[str, float | None]


def newest_checkpoint(run_dir: RunDir, config: AnyRunConfig) -> Start | None:
    """The newest checkpoint of a run that can be read; None where it was stopped before it saved one.

    Raises:
        CheckpointError: there are checkpoints, and none can be read.
        ConfigError: it is of another configuration.
    """
    found = run_dir.all_checkpoints()
    problems: list[str] = []
    readable = [start for path in found[:1] if (start := _start(path, config, problems))]
    if problems:
        readable = [start for path in found[1:] if (start := _start(path, config, problems))]
    if found and not readable:
        raise CheckpointError([*problems, f"{run_dir.path}: no checkpoint in it can be read. Start the run anew."])
    start = max(readable, key=lambda start: start.step, default=None)
    for problem in problems:
        _logger.warning("%s", problem)
    if start and problems:
        _logger.warning("going on from %s, of step %d, instead", start.path, start.step)
    return start


def refuse_other_classes(start: Start, labels: LabelSpace) -> None:
    """See that the data set still has the classes that the run was started with.

    Raises:
        ConfigError: it has others.
    """
    if start.labels != labels:
        before, now = (", ".join(space.names) for space in (start.labels, labels))
        difference = f"the run has {before}; the data set now has {now}" if before != now else "colours or ids differ"
        raise ConfigError(f"data: other classes: {difference}. A resumed run keeps its classes; start a new one.")


def _start(path: Path, config: AnyRunConfig, problems: list[str]) -> Start | None:
    try:
        description = read_description(read_checkpoint(path), path)
    except CheckpointError as error:
        problems += error.problems
        return None
    refuse_differences(description.config, config, "Its checkpoint is of another configuration")
    return Start(path, description.step, description.labels, description.metrics)


def _refuse_other_task(old: object, new: object, reason: str) -> None:
    """Before anything else is compared: another task's sections have other keys."""
    if old != new:
        raise ConfigError(f"task: the run has {old!r}, you asked for {new!r}. {reason}; start a new run for this.")


def refuse_differences(old: AnyRunConfig, new: AnyRunConfig, reason: str) -> None:
    """See that two configurations are of the same run.

    Args:
        old: of the run that is there.
        new: asked for.
        reason: why they may not differ; a sentence without its full stop.

    Raises:
        ConfigError: a line for each key that differs.
    """
    _refuse_other_task(old.task, new.task, reason)
    # Where the run lies is no part of what it computes.
    before, after = (config.model_dump(mode="json", exclude={"run_dir"}) for config in (old, new))
    lines = _differences(before, after)
    if lines:
        raise ConfigError([f"{line}. {reason}; start a new run for this." for line in lines])


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(old):
        before, after = old[key], new[key]
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: the run has {before!r}, you asked for {after!r}")
    return lines
