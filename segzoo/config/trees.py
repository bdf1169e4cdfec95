"""Configurations as nested mappings, before the schema sees them: their stages, and keys that are no more.

A configuration that a person writes is refused under a former key, with the new one named. What segzoo wrote itself,
the description in a checkpoint or a saved model and the `config.yaml` of a run, keeps its meaning: its keys are
translated when it is read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segzoo.config.plain import plain_copy

_ONCE = "is said once for all stages. Set it at the top level."
_KEPT = {
    "stages": "a stage has no stages of its own. List them one after the other.",
    "run_dir": _ONCE,
    "task": _ONCE,
    "plugins": _ONCE,
    "trainer.accelerator": _ONCE,
    "trainer.devices": _ONCE,
    "trainer.num_nodes": _ONCE,
    "trainer.strategy": _ONCE,
}
"""Keys that no stage may change, and why: processes and folder are those of the whole."""


@dataclass(frozen=True)
class FormerKey:
    """A key that is no more.

    Args:
        advice: what the refusal says after the key.
        translate: from the value it had to the keys that mean the same now, dotted, and their values.
    """

    advice: str
    translate: Callable[[Any], Mapping[str, Any]]


def _renamed(key: str) -> FormerKey:
    return FormerKey(f"renamed to {key}", lambda value: {key: value})


FORMER_KEYS: Mapping[str, FormerKey] = {
    "trainer.lean": _renamed("trainer.recompute"),
    "trainer.tensorboard": FormerKey(
        "now one of trainer.loggers: [tensorboard]", lambda value: {"trainer.loggers": ["tensorboard"] if value else []}
    ),
    "trainer.wandb": FormerKey(
        "now one of trainer.loggers: [{wandb: {project: NAME}}]",
        lambda value: {"trainer.loggers": [{"wandb": {"project": value}}] if value else []},
    ),
}
"""Dotted key -> what became of it."""


def value_at(tree: object, key: str) -> Any:
    """What a configuration has under a dotted key; None where it has nothing."""
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys of another one in place of its own, section by section."""
    result = dict(tree)
    for key, value in changes.items():
        below = result.get(key)
        sections = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(dict(below or {}), value) if sections else value
    return result


def listed_stages(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The changes of each stage, as far as they are sections; the schema names what is not."""
    listed = tree.get("stages")
    return [stage for stage in listed if isinstance(stage, Mapping)] if isinstance(listed, list | tuple) else []


def stage_tree(tree: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of one stage: the top level with the stage's changes.

    >>> stage_tree({"seed": 1, "model": {"norm": "batch", "decoder": "unet"}}, {"model": {"norm": "frozen"}})
    {'seed': 1, 'model': {'norm': 'frozen', 'decoder': 'unet'}}
    """
    return merged({key: value for key, value in tree.items() if key != "stages"}, stage)


def stage_key_problems(stage: Mapping[str, Any], number: int) -> Iterator[str]:
    """A line for each key of a stage that it may not change; they lack the stage's place in front.

    Args:
        stage: its changes.
        number: stages before it.
    """
    for key, reason in _KEPT.items():
        if _has(stage, key):
            yield f"{key}: {reason}"
    if number and _has(stage, "model.weights"):
        yield "model.weights: a stage begins with the network of the one before. Leave it out."


def without_kept_keys(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's changes without those that `stage_key_problems` names, so that each problem has one line."""
    return {
        key: {name: kept for name, kept in value.items() if f"{key}.{name}" not in _KEPT}
        if isinstance(value, Mapping)
        else value
        for key, value in stage.items()
        if key not in _KEPT
    }


def with_current_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that segzoo wrote, with today's keys in place of former ones, in its stages too.

    >>> with_current_keys({"trainer": {"lean": False}, "stages": [{"trainer": {"lean": True}}]})
    {'trainer': {'recompute': False}, 'stages': [{'trainer': {'recompute': True}}]}
    """
    result = plain_copy(tree)
    if stages := listed_stages(result):
        result["stages"] = [with_current_keys(stage) for stage in stages]
    for key, former in FORMER_KEYS.items():
        path, _, last = key.rpartition(".")
        if not _has(result, key):
            continue
        for name, translated in former.translate(value_at(result, path).pop(last)).items():
            before = value_at(result, name)
            both = [*before, *translated] if isinstance(before, list) else translated  # two keys became one list
            result = merged(result, _nested(name, both))
    return result


def _has(tree: Mapping[str, Any], key: str) -> bool:
    """Whether a configuration names a dotted key, with a value or with null."""
    path, _, last = key.rpartition(".")
    section = value_at(tree, path) if path else tree
    return isinstance(section, Mapping) and last in section


def _nested(key: str, value: object) -> dict[str, Any]:
    *sections, last = key.split(".")
    tree: dict[str, Any] = {last: value}
    for section in reversed(sections):
        tree = {section: tree}
    return tree
