"""The schema as text: every key with its type, default and meaning, for `--help`."""

import typing
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.schema import RunConfig


def explain_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield (dotted key, type, default, meaning) for every key of the schema, sections in order."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from explain_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, _type_text(kind), _default_text(field), field.description or ""


def explain_text() -> str:
    """All keys, two lines each, as the end of a tool's `--help`; for classification those that differ."""
    common = list(explain_keys())
    own = [key for key in explain_keys(ClassificationRunConfig) if key not in common]
    lines = ["configuration keys, as key.sub=value or --key.sub value:", "", *_lines(common)]
    lines += [
        "",
        "task=classification has data, model, loss and evaluation sections of its own; what is not as above:",
        "",
    ]
    return "\n".join([*lines, *_lines(own)])


def _lines(keys: Iterable[tuple[str, str, str, str]]) -> Iterator[str]:
    for key, kind, default, meaning in keys:
        yield f"  {key}: {kind}{default}"
        yield f"      {' '.join(meaning.split())}"


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    value: Any = field.default
    shown = list(value) if isinstance(value, tuple) else value
    return f" = {'null' if shown is None else shown}"


def _type_text(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(_type_text(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin is tuple:
        return "list"
    if origin is dict:
        return "mapping"
    if kind is type(None):
        return "null"
    return {str: "text", int: "integer", float: "number", bool: "true | false"}.get(
        kind, typing.cast(str, getattr(kind, "__name__", str(kind)))
    )
