"""What pydantic finds wrong, as lines for whoever wrote the configuration or the call."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from segzoo.config.former_keys import FORMER_KEYS
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
    """One line per wrong key; the alternatives of a union are joined."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":  # follows from another problem, which has its own line
            continue
        key, rest = split_location(detail["loc"], schema)
        message = _unknown_key(key, rest, schema) if detail["type"] == "extra_forbidden" else _message(detail)
        lines.setdefault(".".join(key + rest[:1] if detail["type"] == "extra_forbidden" else key), []).append(message)
    for name, messages in lines.items():
        unique = list(dict.fromkeys(messages))
        yield f"{name}: {', or '.join(unique)}" if name else ", or ".join(unique)


def split_location(location: tuple[str | int, ...], schema: type[BaseModel]) -> tuple[list[str], list[str]]:
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
