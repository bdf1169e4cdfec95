"""Unpacking archives from strangers: all of a folder or nothing, and never a byte outside of it."""

import lzma
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.data.progress import MoveTo, byte_bar
from segzoo.errors import DataError, first_line

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)  # of any format
_LINK_TARGET = 4096  # bytes; no path is longer


def is_archive(file: Path) -> bool:
    """Whether a file is a tar or a zip, the latter to its end."""
    return tarfile.is_tarfile(file) or zipfile.is_zipfile(file)


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Unpack an archive and make one folder of it `target`.

    Everything goes into a hidden folder beside the target first, which is moved over when all is there: what bears
    the target's name is complete, however an earlier run ended.

    Args:
        archive: tar (also compressed) or zip, told by content.
        folder: the folder inside it that is wanted.
        target: what it becomes; must not exist.

    Raises:
        DataError: the archive is damaged, holds no such folder, cannot be written, or is hostile: a member with an
            absolute path or `../`, a link that leads out, a device. Nothing is left behind then.
    """
    if target.exists():
        raise DataError(f"{target}: is there already. Move it away to unpack {archive.name} again.")
    try:
        with folder_beside(target) as temporary:
            _unpack_all(archive, temporary)
            if not (temporary / folder).is_dir():
                raise DataError(f"{archive}: holds no folder {folder}; is this the right archive for {target}?")
            (temporary / folder).replace(target)
    except OSError as error:
        raise DataError(f"{archive}: could not be unpacked into {target} ({error.strerror or error})") from error


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """An empty hidden folder beside `target`, to be filled and then moved over; what is left of it goes.

    Its name is always the same, so that the next run clears away what a killed one left.
    """
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_all(archive: Path, folder: Path) -> None:
    try:
        # In this order: a zip is told by its end, which may be that of a zip inside a tar.
        unpack_members = _unpack_tar if tarfile.is_tarfile(archive) else _unpack_zip
        with byte_bar(f"unpacking {archive.name}", archive.stat().st_size) as move_to:
            unpack_members(archive, folder, move_to)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: refused, {first_line(error)}") from error
    except _DAMAGE as error:
        raise DataError(f"{archive}: damaged or no tar or zip archive ({first_line(error)})") from error


def _unpack_tar(archive: Path, folder: Path, move_to: MoveTo) -> None:
    """Unpack a tar through the standard library's filter for data.

    Links that stay inside are left out: data sets need none, and archives have led out of folders through chains of
    them (CVE-2025-4517), past the filter of older Pythons.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DataError(f"{archive}: unpacking it safely needs Python 3.11.4 or newer")

    def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        move_to(file.tell())
        _refuse_absolute(member.name, archive)  # the filter would make it relative
        safe = tarfile.data_filter(member, path)
        return None if member.issym() or member.islnk() else safe

    with archive.open("rb") as file, tarfile.open(fileobj=file) as opened:
        opened.extractall(folder, filter=checked)  # noqa: S202  # this is the filter that the rule asks for


def _unpack_zip(archive: Path, folder: Path, move_to: MoveTo) -> None:
    done = 0
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            _refuse_hostile(opened, member, archive)
        for member in members:
            if not _is_link(member):
                opened.extract(member, folder)
            done += member.compress_size
            move_to(done)


def _refuse_hostile(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> None:
    """The same rules for zip, whose module would quietly rename such members."""
    _refuse_absolute(member.filename, archive)
    if _leads_out(member.filename):
        raise DataError(f"{archive}: refused, '{member.filename}' would be extracted outside of the folder")
    if _is_link(member):
        with opened.open(member) as content:
            target = content.read(_LINK_TARGET).decode(errors="replace")
        if posixpath.isabs(target) or _leads_out(posixpath.join(posixpath.dirname(member.filename), target)):
            raise DataError(f"{archive}: refused, the link '{member.filename}' leads out of the folder")


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _refuse_absolute(name: str, archive: Path) -> None:
    if re.match(r"[/\\]|[A-Za-z]:", name):
        raise DataError(f"{archive}: refused, '{name}' is an absolute path")


def _leads_out(name: str) -> bool:
    return posixpath.normpath(name.replace("\\", "/")).split("/")[0] == ".."
