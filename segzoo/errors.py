"""What a user can cause, each with the exit status its tool ends with.

Every problem is one line that says what is wrong, where, and what to do. A tool prints the lines without a
traceback; anything that is not a `SegzooError` is a defect of ours and keeps its traceback.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")
_NAME_OR_NUMBER = re.compile(r"'[^']*'|\S*[/\\._]\S*|\d+")
_SPELLED_OUT = 3  # lines of one kind


class SegzooError(Exception):
    """Something that the user can mend, in one line for each thing that is wrong."""

    exit_status = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [printable(problem) for problem in ([problems] if isinstance(problems, str) else problems)]
        super().__init__("\n".join(self.problems))


class ConfigError(SegzooError, ValueError):
    """The request was wrong: a bad key or value, a missing path, nothing to do.

    Python's own word for it is ValueError, which callers from other libraries expect.
    """

    exit_status = 2


class UnknownNameError(ConfigError):
    """A name that no registry holds; the message suggests the nearest one."""


class DataError(SegzooError):
    """The data set's content is wrong: a missing mask, a value out of range, a file that is no image."""


@contextmanager
def data_errors_about(names: Sequence[object]) -> Iterator[None]:
    """Put the names of the images that were looked at, three at most, in front of what is wrong with one of them."""
    try:
        yield
    except DataError as error:
        if not names:
            raise
        shown = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
        image = shown if len(names) == 1 else f"one of {shown}"
        raise DataError(f"{image}: {problem}" for problem in error.problems) from None


class CheckpointError(SegzooError):
    """A checkpoint or weights file that is refused, with the reason."""


class TrainingError(SegzooError):
    """Training that cannot go on, such as a loss that is not finite."""


class InterruptedTrainingError(SegzooError):
    """A signal ended the run, after a checkpoint was saved.

    Args:
        advice: how to go on.
    """

    def __init__(self, signum: int, advice: str) -> None:
        super().__init__(advice)
        self.exit_status = 128 + signum  # as shells have it


def first_line(error: Exception) -> str:
    r"""What an error says, in one line; its type where it says nothing.

    >>> first_line(ValueError("too small\nby far")), first_line(EOFError())
    ('too small', 'EOFError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def printable(text: str | os.PathLike[str]) -> str:
    r"""A path, or text that names some, on one line that can be written anywhere.

    Names of files may be any bytes: those that are no UTF-8 become `\xff`, and so do line ends and other control
    characters.

    >>> printable(os.fsdecode(b"Stra\xdfe\n.jpg"))
    'Stra\\xdfe\\x0a.jpg'
    """
    return _UNPRINTABLE.sub(_escaped, os.fspath(text))


def _escaped(sign: re.Match[str]) -> str:
    code = ord(sign[0])
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # Python's way to keep a byte that is no UTF-8
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{byte:04x}"


def os_problem(error: OSError) -> SegzooError:
    """What the system refused, in one line; a `ConfigError` where it is about the name that was asked for.

    >>> os_problem(FileNotFoundError(2, "No such file or directory", "x.png")).problems
    ['x.png: No such file or directory']
    """
    named = error.errno in (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST)
    what = f"{shortened(str(error.filename))}: {error.strerror}" if error.filename else first_line(error)
    return (ConfigError if named else SegzooError)(what)


def shortened(text: str, most: int = 80) -> str:
    """Somebody else's text inside a line of ours, without what exceeds `most` characters.

    >>> shortened("x" * 5000, most=5)
    'xxxxx...'
    """
    return text if len(text) <= most else f"{text[:most]}..."


def in_groups(lines: Iterable[str]) -> list[str]:
    """Lines about files (`FILE: what is wrong`), where more than three that differ in names and numbers become one.

    >>> in_groups(f"images/{name}.png: no mask masks/{name}.png" for name in "abcde")
    ['images/a.png and 4 more (images/b.png, images/c.png, ...): no mask masks/a.png']
    """
    lines = list(dict.fromkeys(lines))
    groups: dict[str, list[str]] = {}
    for line in lines:
        groups.setdefault(_without_names(line), []).append(line)
    grouped = ((line, groups[_without_names(line)]) for line in lines)
    return [
        line if len(group) <= _SPELLED_OUT else _joined(group)
        for line, group in grouped
        if len(group) <= _SPELLED_OUT or line == group[0]
    ]


def _without_names(line: str) -> str:
    file, colon, text = line.partition(": ")
    return _NAME_OR_NUMBER.sub("*", text) if colon else file


def _joined(lines: list[str]) -> str:
    files = [line.partition(": ")[0] for line in lines]
    also = ", ".join(files[1:_SPELLED_OUT])
    return f"{files[0]} and {len(files) - 1} more ({also}, ...): {lines[0].partition(': ')[2]}"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence that suggests the nearest known name, or lists them all.

    >>> did_you_mean("batch_sise", ["batch_size", "crop_size"], prefix="data.")
    'Did you mean data.batch_size?'
    >>> did_you_mean("zzz", ["unet", "fpn"])
    'Known: fpn, unet.'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    return f"Known: {', '.join(names)}." if names else "None is known."
