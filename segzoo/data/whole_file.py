"""Files that are whole or not there at all, whatever happens while they are written, and the folders they go into."""

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.errors import ConfigError

_LEFTOVER = re.compile(r"\.([0-9a-f]{16})\.[0-9a-f]{8}\.tmp")


def make_output(folder: Path, option: str = "--output") -> None:
    """Make the folder that results go into, before the work that they come from.

    Args:
        folder: to be there, with its parents.
        option: that named it, or a file in it.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option}: {folder}: cannot be written to ({error.strerror}). Name another folder."
        ) from None


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and move over it, so that nobody ever sees half a file.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside the target to write into; it is moved over the target at the end, or deleted where that fails."""
    temporary = path.with_name(f".{_mark(path)}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete what a killed process left while it wrote one of these files; other files' leftovers stay."""
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
