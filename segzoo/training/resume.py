"""Which configuration is asked for, and going on with a run: the same one, from the newest checkpoint."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.checkpoint.read import read_checkpoint, read_description
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import apply_overrides, config_from_tree, dump_config, load_config, read_yaml
from segzoo.config.trees import merged, with_current_keys
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import Inventory, differences, inventory_of
from segzoo.errors import CheckpointError, ConfigError, first_line
from segzoo.files import read_json, write_atomically
from segzoo.tasks.names import known_names
from segzoo.tasks.processes import is_first_process
from segzoo.training.build import RunData
from segzoo.training.run_dir import RunDir, longer_advice, open_run_dir

_logger = logging.getLogger(__name__)

_FREE: Mapping[str, tuple[str, ...]] = {
    "data": ("root", "cache", "num_workers"),
    "evaluation": ("batch_size", "split", "tta", "tta_scales", "tta_flip", "tile", "tile_overlap"),
    "trainer": (
        "progress",
        "overlay_images",
        "loggers",
        "log_every_steps",
        "save_every_steps",
        "keep_every_steps",
    ),
}
"""Keys that a resumed run may change: where things lie, how they are shown, how large parts validation works in. The
weights do not depend on them."""
_LENGTH = ("trainer.max_steps", "trainer.max_epochs")
_REASON = "A resumed run keeps its configuration"


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

    Keys that change no result may change. A relative folder is the one that the run was started with, wherever it goes
    on, as long as that is there.

    Args:
        run_dir: its folder.
        config: YAML file named beside it, or None.
        overrides: `key=value` changes named beside it.

    Raises:
        ConfigError: no run there, or the request contradicts it.
    """
    run = open_run_dir(Path(run_dir))
    saved = saved_tree(run)
    _check_folder(run, overrides)
    # What the file leaves open is as the run found it: settings of weights, devices of torchrun, its first overrides.
    found = _with_folders_of(run, saved)
    asked = apply_overrides(found if config is None else merged(found, read_yaml(Path(config))), overrides)
    before, now = (tree.get("task", "segmentation") for tree in (saved, asked))
    _check_same_task(before, now, _REASON)
    kept, new = (config_from_tree(tree, known_names=known_names()) for tree in (found, asked))
    if new.loss.class_weights == "balanced" and kept.loss.class_weights is not None:  # the run has the numbers
        weights = {"class_weights": kept.loss.class_weights}
        new = new.model_copy(update={"loss": new.loss.model_copy(update=weights)})
    check_same_run(kept, new, _REASON, start_from=run.path)
    return with_free_keys(kept, new)


def with_free_keys(config: AnyRunConfig, source: AnyRunConfig) -> AnyRunConfig:
    """A run's configuration with another one's values of the keys that change no result."""
    sections = {}
    for name, keys in _FREE.items():
        section, other = getattr(config, name), getattr(source, name)
        known = [key for key in keys if key in type(section).model_fields and key in type(other).model_fields]
        sections[name] = section.model_copy(update={key: getattr(other, key) for key in known})
    return config.model_copy(update=sections)


def keep_config(run_dir: RunDir, config: AnyRunConfig) -> None:
    """See that a run goes on with its own configuration, and note in it where things are now.

    Args:
        run_dir: of the run; its `config.yaml` is written anew where a key that changes no result has changed.
        config: to go on with.

    Raises:
        ConfigError: it is another one.
    """
    tree = saved_tree(run_dir)
    saved, found = config_from_tree(tree), config_from_tree(_with_folders_of(run_dir, tree))
    check_same_run(found, config, _REASON, start_from=run_dir.path)
    now = with_free_keys(found, config)
    changes = list(_differences(saved.model_dump(mode="json"), now.model_dump(mode="json")))
    if changes and is_first_process():
        for key, before, after in changes:
            _logger.info("%s: the run had %r, and goes on with %r", key, before, after)
        write_atomically(run_dir.config, dump_config(now).encode())


def _check_folder(run: RunDir, overrides: Sequence[str]) -> None:
    asked = apply_overrides({}, [text for text in overrides if text.partition("=")[0] == "run_dir"])
    if asked and (asked["run_dir"] is None or os.path.realpath(str(asked["run_dir"])) != os.path.realpath(run.path)):
        raise ConfigError(
            f"run_dir: the run lies in {run.path}, you asked for {asked['run_dir']}. A resumed run stays in its "
            "folder: leave run_dir out, or copy the folder, and resume the copy."
        )


def _with_folders_of(run: RunDir, saved: dict[str, Any]) -> dict[str, Any]:
    """The configuration with relative paths as seen from where the run was started, if that is elsewhere.

    Weights to start from are among them as long as no checkpoint, which knows the configuration too, was saved.
    """
    started = run.started_in()
    if started is None or started == Path.cwd():
        return saved
    sections: dict[str, tuple[str, ...]] = {"data": ("root", "cache")}
    if not any(run.path.glob("**/checkpoints/*.ckpt")):
        sections["model"] = ("weights",)
    known = {name: section for name in sections if isinstance(section := saved.get(name), Mapping)}
    paths = {
        name: {key: started / str(section[key]) for key in sections[name] if section.get(key) is not None}
        for name, section in known.items()
    }
    return merged(
        saved,
        {name: {key: str(path) for key, path in found.items() if path.exists()} for name, found in paths.items()},
    )


def saved_tree(run_dir: RunDir) -> dict[str, Any]:
    """The configuration of a run: config.yaml, or where that was damaged or lost, what a checkpoint knows of it.

    Raises:
        ConfigError: config.yaml cannot be read, and no checkpoint has the configuration.
    """
    try:
        if os.path.lexists(run_dir.config) and not run_dir.config.is_file():  # a pipe would be waited for
            raise ConfigError(f"{run_dir.config}: not a plain file")
        return with_current_keys(read_yaml(run_dir.config))
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


def check_classes(start: Start, labels: LabelSpace) -> None:
    """See that the data set still has the classes that the run was started with.

    Raises:
        ConfigError: it has others.
    """
    if start.labels != labels:
        before, now = (", ".join(space.names) for space in (start.labels, labels))
        difference = f"the run has {before}; the data set now has {now}" if before != now else "colours or ids differ"
        raise ConfigError(f"data: other classes: {difference}. A resumed run keeps its classes; start a new one.")


def check_images(run_dir: RunDir, data: RunData) -> None:
    """See that a run has the images with which it began; where it does not know them, note those that are there.

    Raises:
        ConfigError: images of a split were added, removed, exchanged or put in another order.
    """
    now = {"training": inventory_of(data.train_dataset), "validation": inventory_of(data.val_dataset)}
    before = _known_images(run_dir)
    if before is None:
        write_atomically(run_dir.images, json.dumps(now).encode())
        return
    found = {kind: differences(before[kind], now[kind]) for kind in now}
    problems = [
        f"data: other {kind} images than when the run began: {difference}. Put things back, or "
        f"{longer_advice(run_dir.path)}"
        for kind, difference in found.items()
        if difference
    ]
    if problems:
        raise ConfigError(problems)


def _known_images(run_dir: RunDir) -> dict[str, Inventory] | None:
    if not os.path.lexists(run_dir.images):  # a run of an older version, or one that begins
        return None
    try:
        known = read_json(run_dir.images)
        return {kind: {name: list(entry) for name, entry in known[kind].items()} for kind in ("training", "validation")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _logger.warning("%s: damaged (%s), so the images were not compared", run_dir.images, first_line(error))
        return None


def _start(path: Path, config: AnyRunConfig, problems: list[str]) -> Start | None:
    try:
        content = read_checkpoint(path)
        description = read_description(content, path)
        _check_progress(content, path)
    except CheckpointError as error:
        problems += error.problems
        return None
    check_same_run(description.config, config, "Its checkpoint is of another configuration")
    return Start(path, description.step, description.labels, description.metrics)


def _check_progress(content: Mapping[str, Any], path: Path) -> None:
    """See that a checkpoint holds what training goes on by: one stripped to its weights would begin anew in silence.

    Raises:
        CheckpointError: it does not.
    """
    kinds = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict}
    lacking = [key for key, kind in kinds.items() if not (isinstance(content.get(key), kind) and content[key])]
    if lacking:
        raise CheckpointError(f"{path}: not to be gone on from: without {', '.join(lacking)}, as training saves them.")


def _check_same_task(old: object, new: object, reason: str) -> None:
    """Before anything else is compared: another task's sections have other keys."""
    if old != new:
        raise ConfigError(f"task: the run has {old!r}, you asked for {new!r}. {reason}; start a new run for this.")


def check_same_run(old: AnyRunConfig, new: AnyRunConfig, reason: str, *, start_from: Path | None = None) -> None:
    """See that two configurations are of the same run.

    Args:
        old: of the run that is there.
        new: asked for.
        reason: why they may not differ; a sentence without its full stop.
        start_from: the run that is there, for those who want it longer.

    Raises:
        ConfigError: a line for each key that differs.
    """
    _check_same_task(old.task, new.task, reason)
    # Where the run and its plug-ins lie is no part of what it computes, nor are the keys that may change.
    before, after = (
        each.model_dump(mode="json", exclude={"run_dir", "plugins"}) for each in (with_free_keys(old, new), new)
    )
    lines = [
        f"{key}: the run has {was!r}, you asked for {asked!r}. {reason}; "
        + (longer_advice(start_from) if start_from and key in _LENGTH else "start a new run for this.")
        for key, was, asked in _differences(before, after)
    ]
    if lines:
        raise ConfigError(lines)


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Each key that differs, and what it is in both."""
    for key in sorted(old):
        before, after = old[key], new[key]
        if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}", before, after
