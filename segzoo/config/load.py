"""From a YAML file and `key.sub=value` overrides to a checked configuration, every problem in one go."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.nodes import Node
from ruamel.yaml.representer import SafeRepresenter

from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.former_keys import FORMER_KEYS
from segzoo.config.packaged import find_config
from segzoo.config.plain import MAX_BYTES, parse_yaml, plain_copy
from segzoo.config.schema import RunConfig
from segzoo.config.stages import listed_stages, stage_key_problems, stage_tree, without_kept_keys
from segzoo.errors import ConfigError, did_you_mean, first_line, shortened

KnownNames = Mapping[str, Collection[str]]
"""Dotted key -> the names it may take, or the keys of its mapping, for choices that live in a registry.

A key of another task than segmentation has the task in front, as in `classification:data.name`, where the same key has
names of its own there."""

SCHEMAS: Mapping[str, type[AnyRunConfig]] = {"segmentation": RunConfig, "classification": ClassificationRunConfig}
"""`task` -> what its configuration has to be."""


def load_config(
    source: str | Path | Mapping[str, Any] | None,
    overrides: Sequence[str] = (),
    *,
    known_names: KnownNames | None = None,
) -> AnyRunConfig:
    """Read a configuration, apply overrides, check everything.

    Args:
        source: YAML 1.2 file; the name of one that comes with segzoo, such as quickstart; what such a file says, as
            nested dictionaries; None starts from nothing.
        overrides: `key.sub=value` strings; values are YAML, so `1e-3` is a number and `null` is None.
        known_names: dotted keys whose values have to be among these names.

    Raises:
        ConfigError: one line per problem, each with its key and a suggestion.
    """
    tree = source or {} if isinstance(source, Mapping | None) else read_yaml(Path(source))
    return config_from_tree(apply_overrides(tree, overrides), known_names=known_names)


def for_segmentation(config: AnyRunConfig) -> RunConfig:
    """The configuration, for a command that has nothing to do for classifiers.

    Raises:
        ConfigError: it is of another task.
    """
    if not isinstance(config, RunConfig):
        raise ConfigError(f"task: {config.task}, and this is for segmentation only.")
    return config


def config_from_tree(tree: Mapping[str, Any], *, known_names: KnownNames | None = None) -> AnyRunConfig:
    """Check a nested mapping, as it comes from YAML or a checkpoint, by the schema of its `task`.

    Raises:
        ConfigError: one line per problem.
    """
    names, tree = known_names or {}, plain_copy(tree)
    config, problems = _checked(tree, names)
    stages = [line for number, stage in enumerate(listed_stages(tree)) for line in _stage(tree, stage, number, names)]
    # What is wrong at the top level is wrong in every stage, and said once.
    problems += [f"stages[{number}].{line}" for number, line in stages if line not in problems]
    if config is None or problems:
        raise ConfigError(problems)
    return config


def _checked(tree: Mapping[str, Any], known_names: KnownNames) -> tuple[AnyRunConfig | None, list[str]]:
    """The configuration, unless the schema refuses it, and a line for each problem."""
    asked = tree.get("task", "segmentation")
    task = _task_meant(asked)
    schema = SCHEMAS[task]
    problems = list(_name_problems(tree, _of_task(known_names, task, schema)))
    if task != asked:
        problems.append(f"task: unknown name {_shown(asked)}. {did_you_mean(str(asked), SCHEMAS)}")
        tree = {**tree, "task": task}
    try:
        return schema.model_validate(tree), problems
    except ValidationError as error:
        return None, [*_schema_problems(error, schema), *problems]


def _task_meant(asked: object) -> str:
    """The task that a name most likely means, whose keys the rest is held against."""
    near = get_close_matches(str(asked), SCHEMAS, n=1)
    return near[0] if near else "segmentation"


def _stage(
    tree: Mapping[str, Any], stage: Mapping[str, Any], number: int, known_names: KnownNames
) -> Iterator[tuple[int, str]]:
    """The number of a stage with each of its problems."""
    own = _checked(stage_tree(tree, without_kept_keys(stage)), known_names)[1]
    yield from ((number, line) for line in (*stage_key_problems(stage, number), *own))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping: no tags that build objects, no duplicate keys.

    Args:
        path: a file, or what names one that comes with segzoo.

    Raises:
        ConfigError: missing, unreadable, empty or malformed file, with the line.
    """
    path = find_config(path)
    try:
        tree = parse_yaml(_text_of(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {first_line(error)}") from None
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path}: no `key: value` pairs in it. Start from a ready one, such as quickstart.")
    return tree


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB, which is no configuration.")
    return content.decode("utf-8-sig")


def apply_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `tree` with `key.sub=value` strings applied in order.

    Raises:
        ConfigError: an override without `=`, or below something that is no section.
    """
    result = plain_copy(tree)
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            problems.append(f"{shortened(override)}: not understood. Write key.sub=value, such as data.batch_size=4.")
            continue
        try:
            _set(result, key, parse_yaml(text) if text.strip() else None)
        except ConfigError as error:
            problems += error.problems
        except ValueError as error:
            problems.append(f"{shortened(override)}: {error}")
    if problems:
        raise ConfigError(problems)
    return result


def dump_config(config: AnyRunConfig) -> str:
    """The whole configuration as YAML that `load_config` reads back to an equal one."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None only
    yaml.representer.add_representer(list, _plain_list_on_one_line)
    stream = StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def _plain_list_on_one_line(representer: SafeRepresenter, items: list[object]) -> Node:
    plain = not any(isinstance(item, Mapping) for item in items)
    return representer.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


def _set(tree: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    for depth, section in enumerate(sections):
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {'.'.join(sections[: depth + 1])} is a value, not a section.")
    tree[last] = value


def _schema_problems(error: ValidationError, schema: type[BaseModel]) -> Iterator[str]:
    """One line per wrong key; the alternatives of a union are joined."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":  # follows from another problem, which has its own line
            continue
        key, rest = _split_location(detail["loc"], schema)
        message = _unknown_key(key, rest, schema) if detail["type"] == "extra_forbidden" else _message(detail)
        lines.setdefault(".".join(key + rest[:1] if detail["type"] == "extra_forbidden" else key), []).append(message)
    for name, messages in lines.items():
        unique = list(dict.fromkeys(messages))
        yield f"{name}: {', or '.join(unique)}" if name else ", or ".join(unique)


def _split_location(location: tuple[str | int, ...], schema: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Split pydantic's location into the keys that the schema knows, and what is left (list index, union member)."""
    model: type[BaseModel] | None = schema
    known: list[str] = []
    for part in location:
        if model is None or part not in model.model_fields:
            break
        known.append(str(part))
        model = _section_type(model, str(part))
    return known, [str(part) for part in location[len(known) :]]


def _section_type(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    annotation = model.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _unknown_key(section: list[str], rest: list[str], schema: type[BaseModel]) -> str:
    model = schema
    for part in section:
        model = _section_type(model, part) or model
    prefix = "".join(f"{part}." for part in section)
    former = FORMER_KEYS.get(f"{prefix}{rest[0]}")
    if former is not None:
        return former.advice
    return f"unknown key. {did_you_mean(rest[0], model.model_fields, prefix)}"


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        if isinstance(detail["loc"][-1], int):  # an item of a list
            return f"has too few values: {_shown(detail['input'])}. `--help` explains every key."
        return "missing; it has no default. `--help` explains every key."
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "model_type":
        return f"is a section with keys of its own, not {_shown(detail['input'])}"
    return f"{_rule(detail)}, not {_shown(detail['input'])}"


def _rule(detail: ErrorDetails) -> str:
    """What pydantic demands, in the words of YAML, which has lists and no tuples."""
    if detail["type"] == "too_long":
        return f"takes at most {detail['ctx']['max_length']} values"
    if detail["type"] == "too_short":
        return f"takes at least {detail['ctx']['min_length']} value(s)"
    return detail["msg"].replace("Input should", "should").replace("valid tuple", "list")


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a section"
    return shortened(repr(list(value) if isinstance(value, tuple) else value))


def _name_problems(tree: Mapping[str, Any], known_names: KnownNames) -> Iterator[str]:
    for key, names in known_names.items():
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        asked = [value] if isinstance(value, str) else list(value) if isinstance(value, Mapping) else []
        for name in asked:
            if isinstance(name, str) and name not in names:
                yield f"{key}: unknown name {_shown(name)}. {did_you_mean(name, names)}"


def _of_task(known_names: KnownNames, task: str, schema: type[BaseModel]) -> KnownNames:
    """The names of the keys that a task's schema has."""
    of_all = {key: names for key, names in known_names.items() if ":" not in key and _has_key(key, schema)}
    own = {key.removeprefix(f"{task}:"): names for key, names in known_names.items() if key.startswith(f"{task}:")}
    return of_all | own


def _has_key(key: str, schema: type[BaseModel]) -> bool:
    parts = key.split(".")
    return _split_location(tuple(parts), schema)[0] == parts
