"""One run directory, one run: a lock that ends with the process that holds it."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from segzoo.errors import ConfigError
from segzoo.files import locked

_OURS = b"process "


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder; a crashed run blocks nobody.

    Args:
        folder: a run directory, which exists.

    Raises:
        ConfigError: another process trains there, and the message names it; or its `.lock` is none of ours.
    """
    path = folder / ".lock"
    with ExitStack() as stack:
        try:
            file = stack.enter_context(locked(path, wait=False))
            before = os.pread(file, len(_OURS), 0)
            if before in {b"", _OURS}:
                os.ftruncate(file, 0)
                os.pwrite(file, b"%s%d on %s" % (_OURS, os.getpid(), socket.gethostname().encode()), 0)
        except BlockingIOError:
            raise ConfigError(
                f"run_dir: {_holder(path)} is training in {folder}. Wait for it, stop it, or name another folder."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"run_dir: cannot write to {folder} ({path.name}: {error.strerror}). Name another folder."
            ) from None
        if before not in {b"", _OURS}:
            raise ConfigError(f"run_dir: {path} is no lock of segzoo's. Move it away, or name another folder.")
        yield


def _holder(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[:200] or "another process"
