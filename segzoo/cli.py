"""What every command shares: overrides on the command line, errors as lines, exit statuses, logging."""

import codecs
import os
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from inspect import cleandoc
from io import TextIOWrapper
from types import FrameType
from typing import Any, Literal, NoReturn, TextIO

from segzoo.config.schema import RunConfig
from segzoo.config.sections import Section
from segzoo.errors import ConfigError, InterruptedTrainingError, SegzooError, os_problem, printable
from segzoo.escapes import show_log
from segzoo.plugins import load_plugins


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command and leave with its exit status; a user's mistake is printed as lines, without a traceback.

    Exit status: what `main` returns; 1 or 2 from a `SegzooError`; 130 on SIGINT, 143 on SIGTERM, 129 on SIGHUP.
    """
    signal.signal(signal.SIGTERM, _exit_on_signal)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under `nohup`
        signal.signal(signal.SIGHUP, _exit_on_signal)
    _write_anything()
    show_log(anew=True)
    try:
        _check_empty_words(sys.argv[1:])
        status = main()
        sys.stdout.flush()  # here, where a reader that left is no error
    except SegzooError as error:
        status = _tell(error)
    except KeyboardInterrupt:
        _say("interrupted\n")
        status = 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        _write_nowhere(sys.stdout)
        status = 0
    except OSError as error:
        status = _tell(os_problem(error))
    sys.exit(status)


def _check_empty_words(words: Sequence[str]) -> None:
    """Find what a shell makes of a variable that is not set: as a path it would mean the working folder.

    The value of a key of the configuration may be empty.

    Raises:
        ConfigError: a word, or the value of an option, is empty.
    """
    for before, word in zip(("", *words), words, strict=False):
        option, _, value = word.partition("=")
        if not word and not _is_config_key(before.removeprefix("--")):
            after = f" after {before}" if before else ""
            raise ConfigError(f"an empty argument{after}. Is a variable not set? . is this folder.")
        empty = value in ("", "--")  # argparse takes `--` for the end of options, and leaves nothing
        if "=" in word and empty and option.startswith("--") and not _is_config_key(option.removeprefix("--")):
            raise ConfigError(f"{word}: empty. Is a variable not set? . is this folder.")


def check_idle(arguments: Namespace, parser: ArgumentParser, names: Iterable[str], why: str) -> None:
    """See that no option was given which would be passed over in silence.

    Args:
        names: the options that mean nothing here.
        why: a sentence that says so.

    Raises:
        ConfigError: one of them is not at its default; a line for each.
    """
    idle = [name for name in names if getattr(arguments, name) != parser.get_default(name)]
    if idle:
        raise ConfigError(f"--{name}: {why} Leave it out." for name in idle)


class CommandParser(ArgumentParser):
    """The parser of a command, which imports what `--plugin` names before it does anything else.

    Args:
        prog: how the command was called; None for the script's name.
        explains_keys: whether its `--help` ends with the keys of the configuration, those of plug-ins among them.
    """

    def __init__(
        self,
        description: str | None,
        prog: str | None = None,
        *,
        epilog: str | None = None,
        explains_keys: bool = False,
    ) -> None:
        super().__init__(
            prog=prog,
            description=cleandoc(description or ""),
            epilog=epilog,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.explains_keys = explains_keys
        self.add_argument(
            "--plugin", metavar="FILE", action="append", default=[], help="Python file or module with parts of your own"
        )

    def add_config(self, nargs: Literal["?"] | None = None) -> None:
        """Take a configuration and changes to it.

        Args:
            nargs: "?" where the configuration may be left out.
        """
        ready = "YAML file, or the name of a ready one, such as quickstart"
        self.add_argument("config", metavar="CONFIG", nargs=nargs, help=ready)
        self.add_overrides()

    def add_overrides(self) -> None:
        """Take changes to a configuration, which `parse_overrides` finds; after all other words."""
        self.add_argument("overrides", metavar="key.sub=value", nargs="*", help="changes to the configuration")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; whichever way words are parsed, they come by here."""
        words = list(sys.argv[1:] if args is None else args)
        load_plugins(list(_plugins_in(words)))
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """The help, with the keys that the configuration has by now."""
        if self.explains_keys:
            from segzoo.config.explain import explain_text  # only --help needs it

            self.epilog = explain_text()
        return super().format_help()


def _plugins_in(words: Sequence[str]) -> Iterator[str]:
    for word, following in zip(words, (*words[1:], ""), strict=False):
        if word == "--plugin" and following:
            yield following
        elif word.startswith("--plugin="):
            yield word.removeprefix("--plugin=")


def parse_overrides(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """Parse a command line with `key.sub=value` and `--key.sub value` overrides anywhere in it.

    The parser must have a positional `overrides` with `nargs="*"`, as its last one. Its own options go before keys of
    the same name.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return parser.parse_intermixed_args(_join_dotted_flags(words, parser._option_string_actions))


def _join_dotted_flags(words: list[str], options: Container[str]) -> list[str]:
    """`--data.batch_size 4` and `--data.batch_size=4` become `data.batch_size=4`; the parser's `options` stay."""
    joined: list[str] = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or f"--{key}" in options or not _is_config_key(key):
            joined.append(word)
        else:
            joined.append(f"{key}={value if equals else next(rest, '')}")
    return joined


def _is_config_key(key: str) -> bool:
    """Whether a flag names a key with a value; the name of a section, as in `--data DIR`, is a command's own option."""
    section, dot, _ = key.partition(".")
    field = RunConfig.model_fields.get(section)
    if field is None:
        return False
    return bool(dot) or not (isinstance(field.annotation, type) and issubclass(field.annotation, Section))


def _write_anything() -> None:
    r"""What a terminal or a file of another encoding cannot show stands there as `\u5199`, and ends nothing."""
    codecs.register_error("segzoo", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook has others
            stream.reconfigure(errors="segzoo")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Bytes of names that are no UTF-8 as `printable` has them, other signs as `backslashreplace` has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = printable(error.object[error.start : error.end])
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _exit_on_signal(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)


def _tell(error: SegzooError) -> int:
    """Print an error's lines; its exit status."""
    prefix = "" if isinstance(error, InterruptedTrainingError) else "error: "  # it did what it was told to
    for problem in error.problems:
        _say(f"{prefix}{problem}\n")
    return error.exit_status


def _say(line: str) -> None:
    try:
        sys.stderr.write(line)
    except OSError:  # the terminal was closed; the exit status still counts
        _write_nowhere(sys.stderr)


def _write_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or leaving would flush, and fail, again
