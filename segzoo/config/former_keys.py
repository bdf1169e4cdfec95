"""Keys that configurations had and have no more: what takes their place, for people and for files that segzoo wrote.

A configuration that a person writes is refused under such a key, with the new one named. What segzoo wrote itself, the
description in a checkpoint or a saved model and the `config.yaml` of a run, keeps its meaning: its keys are translated
when it is read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segzoo.config.plain import plain_copy
from segzoo.config.stages import listed_stages, merged


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


def with_current_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that segzoo wrote, with today's keys in place of former ones, in its stages too.

    >>> with_current_keys({"trainer": {"lean": False}, "stages": [{"trainer": {"lean": True}}]})
    {'trainer': {'recompute': False}, 'stages': [{'trainer': {'recompute': True}}]}
    """
    result = plain_copy(tree)
    if listed_stages(result):
        result["stages"] = [with_current_keys(stage) for stage in listed_stages(result)]
    for key, value in list(_former_values(result)):
        for name, translated in FORMER_KEYS[key].translate(value).items():
            before = _value(result, name)
            both = [*before, *translated] if isinstance(before, list) else translated  # two keys became one list
            result = merged(result, _nested(name, both))
    return result


def _value(tree: object, key: str) -> object:
    """What a configuration has under a dotted key; None where it has nothing."""
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _former_values(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Take former keys out of a configuration: each with its value."""
    for key in FORMER_KEYS:
        path, _, last = key.rpartition(".")
        section = _value(tree, path)
        if isinstance(section, dict) and last in section:
            yield key, section.pop(last)


def _nested(key: str, value: object) -> dict[str, Any]:
    *sections, last = key.split(".")
    tree: dict[str, Any] = {last: value}
    for section in reversed(sections):
        tree = {section: tree}
    return tree
