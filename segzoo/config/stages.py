"""`stages`: several runs in a row from one configuration, each the top level with changes of its own."""

from collections.abc import Iterator, Mapping
from typing import Any

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


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys of another one in place of its own, section by section."""
    result = dict(tree)
    for key, value in changes.items():
        below = result.get(key)
        sections = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(dict(below or {}), value) if sections else value
    return result


def _has(tree: Mapping[str, Any], key: str) -> bool:
    section, _, rest = key.partition(".")
    value = tree.get(section)
    if not rest:
        return section in tree
    return isinstance(value, Mapping) and _has(value, rest)
