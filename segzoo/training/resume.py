"""Which configuration is asked for, and going on with a run: the same one, from the newest checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segzoo.checkpoint.format import parse_description
from segzoo.checkpoint.read import read_checkpoint
from segzoo.config.load import apply_overrides, config_from_tree, load_config, read_yaml
from segzoo.config.schema import RunConfig
from segzoo.errors import CheckpointError, ConfigError
from segzoo.tasks.names import known_names
from segzoo.training.run_dir import RunDir, open_run_dir


def requested_config(config: str | None, overrides: Sequence[str] = (), resume: str | Path | None = None) -> RunConfig:
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


def resumed_config(run_dir: str | Path, config: str | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of a run to resume, which nothing on the command line may contradict.

    Args:
        run_dir: its folder.
        config: YAML file named beside it, or None.
        overrides: `key=value` changes named beside it.

    Raises:
        ConfigError: no run there, or the request contradicts it.
    """
    saved = read_yaml(open_run_dir(Path(run_dir)).config)
    asked = apply_overrides(saved if config is None else read_yaml(Path(config)), overrides)
    names = known_names()
    kept = config_from_tree(saved, known_names=names)
    _refuse_differences(kept, config_from_tree(asked, known_names=names), "A resumed run keeps its configuration")
    return kept


def last_checkpoint(run_dir: RunDir, config: RunConfig) -> dict[str, Any]:
    """The newest checkpoint of a run, which has to be of this configuration.

    Raises:
        CheckpointError: none was saved, or it is refused.
        ConfigError: it is of another configuration.
    """
    if not run_dir.last.is_file():
        raise CheckpointError(f"{run_dir.path}: no checkpoint was saved before it stopped. Start the run anew.")
    content = read_checkpoint(run_dir.last)
    saved = parse_description(content["segzoo"]).config
    _refuse_differences(saved, config, "Its checkpoint is of another configuration")
    return content


def _refuse_differences(old: RunConfig, new: RunConfig, reason: str) -> None:
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
