"""Files that are whole or not there at all, whatever happens while they are written, and the folders they go into."""

import errno
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.errors import ConfigError, printable, shortened

_LEFTOVER = re.compile(r"\.([0-9a-f]{16})\.[0-9a-f]{8}\.tmp")


def possible_output(path: Path, option: str = "--output") -> Path:
    """The path, if a file or folder can have this name.

    Args:
        path: that results would go to.
        option: that named it.

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
    """Make the folder that results go into, before the work that they come from.

    Args:
        folder: to be there, with its parents.
        option: that named it, or a file in it.

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
        files: that will be written.
        overwrite: they may be there already.
        inputs: folders that the images and masks lie in.
        option: that named the files or their folder.

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


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and move over it, so that nobody ever sees half a file.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside the target to write into; at the end it is moved over the target, or deleted where that fails.

    It is on the disk before it has the target's name, and the name is before this returns: a power cut leaves what was
    there or what was written.
    """
    temporary = path.with_name(f".{_mark(path)}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
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
