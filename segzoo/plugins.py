"""Plug-ins: code of the user's own that registers parts, imported before any part is looked up.

It is imported because a person names it, in a configuration of theirs, with `--plugin` or by `segzoo.load_plugins`, or
because they installed a package that announces it; never because a checkpoint or a run asks for it.
"""

import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module, invalidate_caches
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from traceback import extract_tb

from segzoo.errors import ConfigError, SegzooError

ENTRY_POINTS = "segzoo.plugins"
"""The group of entry points by which an installed package announces a module that registers parts."""

OWN_PARTS = "A part of your own is there after --plugin FILE, or in Python segzoo.load_plugins(FILE)."
"""What to do about a checkpoint with a part that nobody knows."""

_logger = logging.getLogger(__name__)
_LOADED: dict[str, str] = {}
"""Module of each plug-in that was asked for -> how another process finds it: by its file, or by the same name."""


def load_plugins(plugins: str | Path | Sequence[str | Path], *, folder: str | Path = ".") -> None:
    """Import code of your own that registers parts, before anything is looked up; again does nothing.

    A file's folder joins `sys.path`, behind what is there: the file may import its neighbours, and processes that start
    afresh find it by its name.

    Args:
        plugins: Python files, or modules as `import` names them; one, or several.
        folder: where relative files, and packages that are not installed, lie if not in the working directory.

    Raises:
        ConfigError: no such file or module, another one of its name, or it raises; a line for each.
    """
    load_announced()
    problems = []
    for plugin in map(str, [plugins] if isinstance(plugins, str | Path) else plugins):
        try:
            _load(plugin, Path(folder))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def loaded_plugins() -> list[str]:
    """What `load_plugins` needs in a process that starts afresh."""
    return list(_LOADED.values())


def not_loaded(plugins: object) -> list[str]:
    """The plug-ins that a configuration names and nobody has imported; `plugins` may be anything a file can hold."""
    named = [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list | tuple) else []
    return [name for name in named if _module(name) not in _LOADED and _module(name) not in sys.modules]


def with_loaded(plugins: Iterable[str]) -> list[str]:
    """The plug-ins of a configuration, and those that were imported beside them, which its checkpoints will need."""
    named = list(plugins)
    return [*named, *(_shown(name) for name in _LOADED.values() if _module(name) not in map(_module, named))]


def plugin_options(plugins: Iterable[str]) -> str:
    """The words that allow plug-ins on a command line, each with a space in front."""
    return "".join(f" --plugin {shlex.quote(name)}" for name in plugins)


def how_to_allow(plugins: Sequence[str]) -> str:
    """The end of a line that refuses what asks for plug-ins."""
    return (
        f"needs {', '.join(plugins)}, and code is never run because a checkpoint or a run asks for it. If it is yours, "
        f"say so:{plugin_options(plugins)}, or in Python segzoo.load_plugins({list(plugins)})."
    )


@contextmanager
def temporarily() -> Iterator[None]:
    """Forget afterwards which plug-ins were loaded meanwhile; the parts that they registered stay."""
    before, path = dict(_LOADED), [*sys.path]
    try:
        yield
    finally:
        for name in _LOADED.keys() - before.keys():
            sys.modules.pop(name, None)
            del _LOADED[name]
        sys.path[:] = path


@cache
def load_announced() -> None:
    """Import what installed packages announce; one that fails is a warning, for no run may need it."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            package = point.dist.name if point.dist else "a package"
            _logger.warning(
                "%s: its plug-in %s fails, so that its parts are unknown: %s", package, point.value, _problems(error)[0]
            )


def _module(plugin: str) -> str:
    return Path(plugin).stem if plugin.endswith(".py") else plugin


def _shown(plugin: str) -> str:
    """A file below the working directory as seen from there; others by their whole path, which holds anywhere."""
    seen = os.path.relpath(plugin) if plugin.endswith(".py") else plugin
    return plugin if seen.startswith(os.pardir) else seen


def _load(plugin: str, folder: Path) -> None:
    name = _module(plugin)
    path = _file(plugin, folder)
    if path is None and name in _LOADED:
        return
    if path is None and plugin.endswith(".py"):
        raise ConfigError(f"{plugin}: no such file, neither beside the configuration nor here.")
    for place in (folder.resolve(), Path.cwd()) if path is None else (path.parent,):
        if str(place) not in sys.path:
            sys.path.append(str(place))
    if path is None or not _is_main(path):
        _import(plugin, name, path)
    _LOADED[name] = plugin if path is None else str(path)


def _file(plugin: str, folder: Path) -> Path | None:
    if not plugin.endswith(".py"):
        return None
    return next((place.resolve() for place in (folder / plugin, Path(plugin)) if place.is_file()), None)


def _is_main(path: Path) -> bool:
    """Whether this process runs the file itself, so that its parts are there."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main is not None and os.path.realpath(main) == str(path)


def _import(plugin: str, name: str, path: Path | None) -> None:
    invalidate_caches()
    try:
        spec = find_spec(name)
        found = spec is not None and (path is None or os.path.realpath(spec.origin or "") == str(path))
        if found:
            import_module(name)
    except (Exception, SystemExit) as error:
        if not (isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")):
            raise ConfigError(f"{plugin}: {line} ({_place(error, path)})" for line in _problems(error)) from error
        found = False
    if not found and path is None:
        raise ConfigError(f"{plugin}: no such module, neither installed nor beside the configuration nor here.")
    if not found:
        raise ConfigError(f"{plugin}: another module is called {name}. Give the file a name of its own.")


def _problems(error: BaseException) -> list[str]:
    if isinstance(error, SegzooError):
        return error.problems
    return [f"{type(error).__name__}: {(str(error).splitlines() or ['it says nothing'])[0]}"]


def _place(error: BaseException, path: Path | None) -> str:
    """The line of the plug-in's code that an error came out of."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} of {error.filename}"
    frames = [frame for frame in extract_tb(error.__traceback__)[1:] if "importlib" not in frame.filename]
    own = [frame for frame in frames if frame.filename == str(path)] or frames
    return f"line {own[-1].lineno} of {own[-1].filename}" if own else "in Python's own import"
