"""From a YAML file and `key.sub=value` overrides to a checked configuration, every problem in one go."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import Node
from ruamel.yaml.representer import SafeRepresenter

from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.plain import MAX_BYTES, parse_yaml, plain_copy
from segzoo.config.problems import schema_problems, shown, split_location
from segzoo.config.schema import RunConfig
from segzoo.config.trees import listed_stages, stage_key_problems, stage_tree, value_at, without_kept_keys
from segzoo.errors import ConfigError, did_you_mean, first_line, shortened
from segzoo.plugins import how_to_allow, load_announced, load_plugins, not_loaded, with_loaded

PACKAGE = Path(__file__).parent.parent
"""The folder of the package."""

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
            nested dictionaries; None starts from nothing. Its `plugins` are imported before anything is looked up.
        overrides: `key.sub=value` strings; values are YAML, so `1e-3` is a number and `null` is None.
        known_names: dotted keys whose values have to be among these names.

    Raises:
        ConfigError: one line per problem, each with its key and a suggestion.
    """
    tree = source or {} if isinstance(source, Mapping | None) else read_yaml(Path(source))
    tree = apply_overrides(tree, overrides)
    named = tree.get("plugins", ())
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        # Said alone: whatever they would have registered would be unknown, too.
        raise ConfigError(f"plugins: should be a list of files and modules, such as [my_parts.py], not {shown(named)}")
    load_plugins(named, folder="." if isinstance(source, Mapping | None) else find_config(Path(source)).parent)
    if plugins := with_loaded(named):
        tree["plugins"] = plugins
    return config_from_tree(tree, known_names=known_names)


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
        ConfigError: one line per problem; or that it needs plug-ins, which only `load_config` imports.
    """
    load_announced()
    if missing := not_loaded(tree.get("plugins")):
        raise ConfigError(f"plugins: {how_to_allow(missing)}")
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
    problems = list(_name_problems(tree, names_of_task(known_names, task)))
    if task != asked:
        problems.append(f"task: unknown name {shown(asked)}. {did_you_mean(str(asked), SCHEMAS)}")
        tree = {**tree, "task": task}
    try:
        return schema.model_validate(tree), problems
    except ValidationError as error:
        return None, [*schema_problems(error, schema), *problems]


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


def packaged_configs() -> Mapping[str, Path]:
    """Name -> file of the complete runs that come with segzoo."""
    inside = PACKAGE / "configs"  # of an installed package; a copy of the repository has them beside it
    folder = inside if inside.is_dir() else PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(path: Path) -> Path:
    """The file that a user means: the one of this path, else the packaged one of this name.

    Args:
        path: a file, or `quickstart` or `configs/quickstart.yaml`, which mean the same where no such file is.

    Raises:
        ConfigError: there is neither; the line names the packaged ones.
    """
    ready = packaged_configs()
    try:
        if path.exists() and not path.is_dir():
            return path
    except OSError as error:  # a name too long, a folder that may not be searched
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    if path.stem in ready and path in (Path(path.stem), Path("configs", f"{path.stem}.yaml")):
        return ready[path.stem]
    if path.is_dir():
        raise ConfigError(f"{path}: a folder. Name a YAML file, or a ready one, such as quickstart.")
    near = "".join(f"Did you mean {name}? " for name in get_close_matches(path.stem, ready, n=1))
    raise ConfigError(f"{path}: no such file. {near}Ready ones, by name: {', '.join(ready)}.")


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


def _name_problems(tree: Mapping[str, Any], known_names: KnownNames) -> Iterator[str]:
    for key, names in known_names.items():
        value = value_at(tree, key)
        asked = [value] if isinstance(value, str) else list(value) if isinstance(value, Mapping | list | tuple) else []
        for name in asked:
            if isinstance(name, str) and name not in names:
                yield f"{key}: unknown name {shown(name)}. {did_you_mean(name, names)}"


def names_of_task(known_names: KnownNames, task: str) -> KnownNames:
    """The names of the keys that a task's schema has; its own names of a key prevail."""
    of_all = {key: names for key, names in known_names.items() if ":" not in key and _has_key(SCHEMAS[task], key)}
    own = {key.removeprefix(f"{task}:"): names for key, names in known_names.items() if key.startswith(f"{task}:")}
    return of_all | own


def _has_key(schema: type[BaseModel], key: str) -> bool:
    return not split_location(tuple(key.split(".")), schema)[1]
