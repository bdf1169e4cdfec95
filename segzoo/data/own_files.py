"""Files of ours with fixed names, in folders that may be somebody else's: opened, locked and read without harm."""

import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither of these two
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)


def open_own(path: Path, flags: int) -> int:
    """Open a file, to read it or to write into it, as `os.open` does; nothing in it is lost by that.

    In a folder from somebody else the name can stand for anything: writing through a link would change a file
    elsewhere, and a pipe would be waited for without end.

    Args:
        path: the file.
        flags: of `os.open`; not `O_TRUNC`, for the file may turn out to be another.

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

    Processes forked from this one do not have it. Where the file system has no locks, nobody is kept out.

    Args:
        path: a file that is there for this alone.
        wait: until another process lets go of it.

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
