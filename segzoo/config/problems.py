"""What pydantic finds wrong, as lines for whoever wrote the configuration or the call."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from segzoo.config.trees import FORMER_KEYS
from segzoo.errors import ConfigError, did_you_mean, shortened

ModelT = TypeVar("ModelT", bound=BaseModel)


def checked(model: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """A section of these values.

    Raises:
        ConfigError: one line for each that is unknown or wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(schema_problems(error, model)) from None


def schema_problems(error: ValidationError, schema: type[BaseModel]) -> Iterator[str]:
    """One line for each wrong key; the alternatives of a union are joined."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":  # follows from another problem, which has its own line
            continue
        key, rest, section = split_location(detail["loc"], schema)
        if detail["type"] == "extra_forbidden":
            lines.setdefault(".".join((*key, rest[0])), []).append(_unknown_key(key, rest[0], section))
        else:
            lines.setdefault(".".join(key), []).append(_message(detail))
    for name, messages in lines.items():
        unique = list(dict.fromkeys(messages))
        yield f"{name}: {', or '.join(unique)}" if name else ", or ".join(unique)


def split_location(
    location: tuple[str | int, ...], schema: type[BaseModel]
) -> tuple[list[str], list[str], type[BaseModel]]:
    """Split pydantic's location into the keys that the schema knows and what is left (list index, union member).

    Returns:
        The keys, what is left, and the section that the last of the keys lies in or is.
    """
    known: list[str] = []
    for part in location:
        if part not in schema.model_fields:
            break
        known.append(str(part))
        kind = schema.model_fields[str(part)].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            break
        schema = kind
    return known, [str(part) for part in location[len(known) :]], schema


def _unknown_key(sections: list[str], name: str, section: type[BaseModel]) -> str:
    prefix = "".join(f"{part}." for part in sections)
    former = FORMER_KEYS.get(f"{prefix}{name}")
    return former.advice if former else f"unknown key. {did_you_mean(name, section.model_fields, prefix)}"


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        if isinstance(detail["loc"][-1], int):  # an item of a list
            return f"has too few values: {shown(detail['input'])}. `--help` explains every key."
        return "missing; it has no default. `--help` explains every key."
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "model_type":
        return f"is a section with keys of its own, not {shown(detail['input'])}"
    return f"{_rule(detail)}, not {shown(detail['input'])}"


def _rule(detail: ErrorDetails) -> str:
    """What pydantic demands, in the words of YAML, which has lists and no tuples."""
    if detail["type"] == "too_long":
        return f"takes at most {detail['ctx']['max_length']} values"
    if detail["type"] == "too_short":
        return f"takes at least {detail['ctx']['min_length']} value(s)"
    return detail["msg"].replace("Input should", "should").replace("valid tuple", "list")


def shown(value: object) -> str:
    """A value as YAML has it, cut where it is long."""
    if isinstance(value, Mapping):
        return "a section"
    return shortened(repr(list(value) if isinstance(value, tuple) else value))
