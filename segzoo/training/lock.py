"""One run directory, one run: a lock that ends with the process that holds it."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.errors import ConfigError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder.

    The system takes the lock back when the process ends, however it ends, and processes forked from it do not have
    it. So a crashed run blocks nobody.

    Args:
        folder: a run directory, which exists.

    Raises:
        ConfigError: another process trains there; the message names it.
    """
    path = folder / ".lock"
    file = _open(path)
    try:
        _take(file, path)
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(f"run_dir: cannot write to {path.parent} ({error.strerror}). Name another folder.") from None


def _take(file: int, path: Path) -> None:
    if sys.platform == "win32":  # no such locks there
        return
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 200, 0).decode(errors="replace") or "another process"
        raise ConfigError(
            f"run_dir: {holder} is training in {path.parent}. Wait for it, stop it, or name another folder."
        ) from None
    except OSError:  # a file system without locks: nothing to hold on to
        return
