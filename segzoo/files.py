"""Files of ours: written whole or not at all, opened without harm, locked; JSON and other people's text read.

Also the rules for where a command may write: `possible_output`, `make_output`, `check_outputs`.
"""

import codecs
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segzoo.errors import ConfigError, DataError, printable, shortened

_LEFTOVER = re.compile(r"\.([0-9a-f]{16})\.[0-9a-f]{8}\.tmp")
_WRITING = os.O_WRONLY | os.O_RDWR
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither of these two
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)


def write_atomically(path: Path, content: bytes | memoryview, *, flush: bool = True) -> None:
    """Write a file as `atomic_write` does, so that nobody ever sees half of it.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    with atomic_write(path, flush=flush) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_write(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A file beside the target to write into; at the end it is moved over the target, or deleted where that fails.

    Args:
        flush: bring it to the disk before it has the target's name, and the name before this returns: a power cut
            leaves what was there or what was written. What can be made again needs no flush.
    """
    temporary = path.with_name(f".{_mark(path)}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if flush:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if flush:
            flush_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Bring names of new files to the disk, as far as the system can."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete what a killed process left while it wrote one of these files; leftovers of other files stay."""
    marks: dict[Path, set[str]] = {}
    for path in targets:
        marks.setdefault(path.parent, set()).add(_mark(path))
    for folder, known in marks.items():
        if folder.is_dir():
            for file in folder.iterdir():
                found = _LEFTOVER.fullmatch(file.name)
                if found and found[1] in known:
                    file.unlink(missing_ok=True)


def _mark(path: Path) -> str:
    """A short name for the target, whose own may be as long as names can be."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]


def open_own(path: Path, flags: int) -> int:
    """Open a file, to read it or to write into it, as `os.open` does; nothing in it is lost by that.

    In a folder from somebody else the name can stand for anything: writing through a link would change a file
    elsewhere, and a pipe would be waited for without end.

    Args:
        flags: those of `os.open`, but not `O_TRUNC`, for the file may turn out to be another.

    Raises:
        OSError: it cannot be opened, is no plain file, or is a link and was to be written.
    """
    writing = flags & _WRITING
    if writing and path.is_symlink():  # the system's own words for it are about loops
        raise OSError(errno.ELOOP, "a link, through which nothing is written", str(path))
    file = os.open(path, flags | _WITHOUT_WAITING | (_NOT_THROUGH_LINKS if writing else 0), 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return file


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[int]:
    """Hold a lock that the system takes back when the process ends, however it ends.

    Processes forked from this one do not hold it. Where the file system has no locks, nobody is kept out.

    Args:
        path: a file that is there for this alone.
        wait: whether to wait until another process lets go of it.

    Yields:
        The open file, to say in it who has the lock.

    Raises:
        BlockingIOError: another process has it, and `wait` is False.
        OSError: the file cannot be opened.
    """
    file = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        _take(file, wait=wait)
        yield file
    finally:
        os.close(file)


def _take(file: int, *, wait: bool) -> None:
    if sys.platform == "win32":  # no such locks there
        return
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be opened or is no plain file.
        ValueError: it is no JSON, or nested deeper than Python can read.
    """
    with os.fdopen(open_own(path, os.O_RDONLY), encoding="utf-8") as file:
        try:
            return json.load(file)
        except RecursionError:
            raise ValueError("nested too deep") from None


def text_of(path: Path, *, any_bytes: bool = False) -> str:
    """The text of a file in UTF-8, also with a byte-order mark, or in UTF-16 with one, as Windows' programs write it.

    Args:
        any_bytes: keep bytes that are no UTF-8 as `os.fsdecode` does, for the names of files may hold any.

    Raises:
        DataError: the file cannot be read, or is no such text.
    """
    try:
        content = path.read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        errors = "surrogateescape" if any_bytes and not utf16 else "strict"
        text = content.decode("utf-16" if utf16 else "utf-8-sig", errors)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no UTF-8 text; save it as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path}: no text, for it holds zero bytes; save it as UTF-8")
    return text


def possible_output(path: Path, option: str = "--output") -> Path:
    """The path that an option of a command names for results, if a file or folder can have this name.

    Raises:
        ConfigError: it is too long, or holds a zero byte or half a character.
    """
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            return path
        reason = "no name that a file can have" if isinstance(error, ValueError) else "too long for a file's name"
        raise ConfigError(f"{option}: {shortened(printable(path))} is {reason}. Name another place.") from None
    return path


def make_output(folder: Path, option: str = "--output") -> None:
    """Make the folder that an option of a command names for results, with its parents, before the work begins.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there.
    """
    possible_output(folder, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option}: {folder}: cannot be written to ({error.strerror}). Name another folder."
        ) from None


def check_outputs(
    files: Iterable[Path], *, overwrite: bool, inputs: Collection[Path] = (), option: str = "--output"
) -> None:
    """The rule for all commands, before their work: nothing is replaced unasked, and nothing goes among the input.

    Args:
        files: what will be written.
        overwrite: whether they may be there already.
        inputs: the folders of the images and masks.
        option: what named the files or their folder.

    Raises:
        ConfigError: a file is there already, is a folder, or would lie beside the input's files.
    """
    files = [possible_output(file, option) for file in files]
    folders = {os.path.realpath(folder) for folder in inputs}  # which loops of links do not upset, as `resolve`
    among = [file for file in files if os.path.realpath(file.parent) in folders]
    if among:
        raise ConfigError(f"{option}: {among[0]} would lie among the images or masks of the input. Name another place.")
    there = [file for file in files if os.path.lexists(file)]
    blocked = [file for file in there if file.is_dir()]
    if blocked:
        raise ConfigError(f"{option}: {blocked[0]} is a folder. Name another place.")
    if there and not overwrite:
        count = f"{len(there)} files are there already, such as" if there[1:] else "there already is"
        raise ConfigError(f"{option}: {count} {there[0]}. Give --overwrite, or name another place.")
