"""Plain values out of YAML that anybody may have written, and nested mappings held to what such a file can say.

Whatever a text holds, reading it gives plain values or a `ValueError` of one line, in bounded time and memory.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent
from ruamel.yaml.nodes import ScalarNode

from segzoo.errors import ConfigError, first_line, shortened

MAX_DEPTH = 50
"""Levels of sections and lists in a configuration; the deepest of ours has six."""

MAX_VALUES = 50_000
"""Values in a configuration, those of aliases each time they are used."""

MAX_BYTES = 2**20
"""Size of a configuration's text. Reading YAML takes seconds for so much."""

_YAML_TAGS = "tag:yaml.org,2002:"
_LARGEST = 2**63
"""No whole number in a configuration needs more than 64 bits."""


def parse_yaml(text: str) -> Any:
    """What a YAML 1.2 text says: null, true and false, numbers, text, lists and mappings; a date is text.

    Raises:
        ValueError: malformed, a tag, a duplicate key, too deep, or too much, in one line with its place.
    """
    try:
        _check_events(_yaml().parse(text))
        return _yaml().load(text)
    except YAMLError as error:
        raise ValueError(_yaml_problem(error)) from None


def plain_copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested sections that holds nothing of the original's mappings and lists; paths become text.

    Raises:
        ConfigError: a key that is no text, text or a whole number that no file can hold, too deep, or too much; one
            line for each problem.
    """
    problems: list[str] = []
    copied = _copy(tree, "", iter(range(MAX_VALUES)), problems)
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return dict(copied)


class _PlainConstructor(SafeConstructor):
    """Makes values of the kinds that YAML 1.2 names itself; text that only looks like a number gets a line."""

    def construct_yaml_int(self, node: ScalarNode) -> int:
        try:
            return int(super().construct_yaml_int(node))
        except (ValueError, IndexError):  # also more digits than Python converts
            raise ConstructorError(None, None, f"no whole number: {node.value}", node.start_mark) from None

    def construct_yaml_float(self, node: ScalarNode) -> float:
        try:
            return float(super().construct_yaml_float(node))
        except (ValueError, IndexError):
            raise ConstructorError(None, None, f"no number: {node.value}", node.start_mark) from None


_PlainConstructor.add_constructor("tag:yaml.org,2002:int", _PlainConstructor.construct_yaml_int)
_PlainConstructor.add_constructor("tag:yaml.org,2002:float", _PlainConstructor.construct_yaml_float)
_PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # pure: the C parser is YAML 1.1
    yaml.version = "1.2"
    yaml.Constructor = _PlainConstructor
    return yaml


def _check_events(events: Iterable[Event]) -> None:
    """Raise, before anything is built, where a text would nest, grow or become an object without bounds."""
    open_anchors: list[tuple[str | None, int]] = []
    sizes: dict[str, int] = {}
    values = 0
    for event in events:
        problem = ""
        if isinstance(event, AliasEvent):
            problem = "" if event.anchor in sizes else f"alias {event.anchor} stands for nothing before it"
            values += sizes.get(event.anchor, 0)
        elif isinstance(event, CollectionStartEvent):
            open_anchors.append((event.anchor, values))
            values += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_anchors.pop()
            if anchor:
                sizes[anchor] = values - before
        elif isinstance(event, ScalarEvent):
            values += 1
            if event.anchor:
                sizes[event.anchor] = 1
        problem = problem or _too_much(len(open_anchors), values) or _tag_problem(event)
        if problem:
            raise MarkedYAMLError(None, None, problem, event.start_mark)


def _tag_problem(event: Event) -> str:
    tag = event.tag if isinstance(event, ScalarEvent | CollectionStartEvent) else None
    return f"tag {shortened(tag.replace(_YAML_TAGS, '!!'))}" if tag else ""


def _too_much(depth: int, values: int) -> str:
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    return f"more than {MAX_VALUES:,} values" if values > MAX_VALUES else ""


def _yaml_problem(error: YAMLError) -> str:
    if not isinstance(error, MarkedYAMLError):
        return f"cannot be read as YAML ({first_line(error)})."
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    problem = shortened(str(error.problem).splitlines()[0])
    if isinstance(error, DuplicateKeyError):
        return f"{line}{problem.split(' with value')[0]}. Keep one of the two."
    return f"{line}{problem}. Only plain YAML 1.2 values are read."


def _copy(value: object, key: str, left: Iterator[int], problems: list[str], depth: int = 0) -> Any:
    """A copy of a value, where `left` counts down how many values may still come."""
    exhausted = next(left, None) is None
    if exhausted or depth > MAX_DEPTH:
        problems.append(f"{shortened(key)}: {_too_much(depth, MAX_VALUES + exhausted)}.")
        return None
    if isinstance(value, Mapping):
        return dict(_copied_items(value, key, left, problems, depth))
    if isinstance(value, list | tuple):
        return [_copy(item, key, left, problems, depth + 1) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    problem = _unfit(value)
    if problem:
        problems.append(f"{shortened(key)}: {problem}.")
    return value


def _copied_items(
    section: Mapping[Any, Any], key: str, left: Iterator[int], problems: list[str], depth: int
) -> Iterator[tuple[str, Any]]:
    prefix = f"{key}." if key else ""
    for name, value in section.items():
        problem = _unfit(name) if isinstance(name, str) else "a name has to be text; put it into quotes"
        if problem:
            problems.append(f"{shortened(f'{prefix}{name}')}: {problem}.")
        else:
            yield name, _copy(value, f"{prefix}{name}", left, problems, depth + 1)


def _unfit(value: object) -> str:
    """Why no file or path can hold a value; empty for all others."""
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        return f"holds signs that are no text: {shortened(ascii(value))}"
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return "a whole number of more than 64 bits"
    return ""
