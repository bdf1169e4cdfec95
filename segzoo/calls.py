"""What a user may get wrong in a call from Python, as the errors of `segzoo.errors`."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from segzoo.errors import ConfigError, os_problem, shortened

if TYPE_CHECKING:
    from pydantic import BaseModel

P = ParamSpec("P")
R = TypeVar("R")


def checked_call(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose arguments are held to their types before it runs, and whose system errors are lines.

    Raises:
        ConfigError: unknown, missing or of a wrong type, in one line for each argument; or what the system refuses.
    """
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        if not hints:
            hints.update(get_type_hints(function, include_extras=True))
        try:
            given = signature.bind(*arguments, **keywords).arguments
        except TypeError as error:
            raise ConfigError(f"{function.__name__}: {error}.") from None
        problems = [line for name, value in _named(given, signature) for line in _problems(name, value, hints)]
        if problems:
            raise ConfigError(problems)
        try:
            return function(*arguments, **keywords)
        except OSError as error:
            raise os_problem(error) from error

    return call


def _named(given: Mapping[str, Any], signature: inspect.Signature) -> Iterator[tuple[str, Any]]:
    """Every argument by its name, but for `**keywords`, which the function checks itself."""
    for name, value in given.items():
        if signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
            yield name, value


def _problems(name: str, value: object, hints: Mapping[str, Any]) -> Iterator[str]:
    from pydantic import BaseModel  # `segzoo --help` does without

    if not _fits(value, hints.get(name, Any)):
        yield f"{name}: has to be {_text(hints[name])}, not {type(value).__name__} ({shortened(repr(value))})."
    elif isinstance(value, str | os.PathLike) and not _is_text(str(value)):
        yield f"{name}: holds signs that are no text: {shortened(ascii(str(value)))}."
    elif isinstance(value, str) and not value and Path in get_args(hints[name]):  # `Path` takes it for "."
        yield f"{name}: is empty. Name a file or a folder."
    elif isinstance(value, BaseModel):
        yield from _config_problems(value)


def _config_problems(config: "BaseModel") -> Iterator[str]:
    """What is wrong in a configuration that was made without being checked, as pydantic's `model_copy` does."""
    from segzoo.config.load import config_from_tree  # `import segzoo` does without

    try:
        config_from_tree(config.model_dump(warnings=False))
    except ConfigError as error:
        yield from error.problems


def _is_text(value: str) -> bool:
    """Whether a file can have this name; Python keeps bytes that are no UTF-8, but nothing else that is no text."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type, as far as one can see without consuming an iterator."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is Annotated:
        return _fits(value, inner[0])
    if origin is Literal:
        return any(value is option or (isinstance(value, str) and value == option) for option in inner)
    if isinstance(origin, type):
        return isinstance(value, origin) and _items_fit(value, inner)
    if kind is int or kind is float:
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return kind is not None or value is None
    return isinstance(value, kind)


def _items_fit(value: object, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, str):
        return False  # a text is no list of its letters
    return not isinstance(value, list | tuple | set) or all(_fits(item, inner[0]) for item in value)


def _text(kind: Any) -> str:
    """A type in the words of an error."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_text(option) for option in inner))
    if origin is Literal:
        return " or ".join(map(str, inner))
    if kind is NoneType:
        return "None"
    if origin is not None and inner and all(isinstance(part, type) for part in inner):
        return f"{_text(origin)} of {', '.join(map(_text, inner))}"
    return str(getattr(kind, "__name__", kind))
