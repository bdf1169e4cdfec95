"""Archives from strangers, unpacked: all of a folder or nothing, and never a byte outside of it.

The standard library's filter for data does most of it. What is here besides is against headers that some Pythons read
for ever or into all memory, against archives larger than the disk, and for zips, which have no filter.
"""

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
from tarfile import HeaderError, ReadError
from typing import IO, Self

from segzoo.errors import DataError, first_line
from segzoo.progress import MoveTo, byte_bar

DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
)
"""What a damaged archive of any format raises."""

_LINK_TARGET = 4096  # bytes; no path is longer
_LONGEST_HEADER = 2**14  # bytes that say a member's name, its link's target and more of the kind
_END = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]  # typeshed leaves them out
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_MOST_TIMES = 100  # a compressed data set is some tenths smaller than what is in it, as images are compressed already
_ALLOWANCE = 2**24  # bytes on top, for small archives of text
_LATEST = 2**40  # seconds since 1970 that every system knows
_RESERVE = 2**28  # bytes of the disk that are left to others


def is_archive(file: Path) -> bool:
    """Whether a file is a tar or a zip, the latter to its end."""
    return _is_tar(file) or zipfile.is_zipfile(file)


def _is_tar(file: Path) -> bool:
    try:
        with open_tar(file):
            return True
    except DAMAGE:
        return False


@contextmanager
def open_tar(archive: Path) -> Iterator[tuple[tarfile.TarFile, IO[bytes]]]:
    """Open a tar, also a compressed one, that a stranger may have made; and the file that it is read from."""
    with archive.open("rb") as file, tarfile.open(fileobj=file, tarinfo=_Member) as opened:
        yield opened, file


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


class _Member(tarfile.TarInfo):
    """A member of a tar, read with less faith than the standard library has.

    That library takes a broken header for the end of the archive, fills as much memory as a header claims to be long,
    and goes back, for ever, where a size is negative (CVE-2025-8194; Python 3.11.7 does).
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """One header, as it stands."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in _HEADERS and member.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header claims {member.size} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"'{member.name}' is sparse")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """The next member, its headers put together."""
        try:
            member = super().fromtarfile(tarfile)
        except _END:
            raise
        except (HeaderError, ValueError, OverflowError, RecursionError) as error:
            raise ReadError(first_line(error)) from None
        if member.size < 0 or member.issparse():
            raise ReadError(f"'{member.name}' has a size of {member.size} bytes, or is sparse")
        return member


class _Space:
    """How much an archive may unpack to: no more than the disk has, or than is in any data set."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive, self._folder = archive, folder
        self._left = _MOST_TIMES * archive.stat().st_size + _ALLOWANCE

    def check(self, size: int) -> None:
        if size > self._left:
            raise DataError(f"{self._archive}: refused, it would unpack to more than {_MOST_TIMES} times its size")
        free = shutil.disk_usage(self._folder).free
        if size > free - _RESERVE:
            raise DataError(
                f"{self._archive}: would fill the disk: {size:,} bytes more are to be unpacked, and {free:,} are free. "
                "Make room, or unpack to another disk."
            )

    def take(self, size: int) -> None:
        self.check(size)
        self._left -= size


def _unpack_all(archive: Path, folder: Path) -> None:
    try:
        # In this order: a zip is told by its end, which may be that of a zip inside a tar.
        unpack_members = _unpack_tar if _is_tar(archive) else _unpack_zip
        with byte_bar(f"unpacking {archive.name}", archive.stat().st_size) as move_to:
            unpack_members(archive, folder, move_to)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: refused, {first_line(error)}") from error
    except DAMAGE as error:
        raise DataError(f"{archive}: damaged or no tar or zip archive ({first_line(error)})") from error


def _unpack_tar(archive: Path, folder: Path, move_to: MoveTo) -> None:
    """Unpack a tar through the standard library's filter for data.

    Links that stay inside are left out: data sets need none, and archives have led out of folders through chains of
    them (CVE-2025-4517), past the filter of older Pythons.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DataError(f"{archive}: unpacking it safely needs Python 3.11.4 or newer")
    space = _Space(archive, folder)
    space.check(archive.stat().st_size)

    def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        move_to(file.tell())
        _check_relative(member.name, archive)  # the filter would make it relative
        safe = tarfile.data_filter(member, path)
        space.take(member.size)
        when = member.mtime if 0 <= member.mtime < _LATEST else 0  # it may be no number
        return None if member.issym() or member.islnk() else safe.replace(mtime=when, deep=False)

    with open_tar(archive) as (opened, file):
        opened.extractall(folder, filter=checked)  # noqa: S202  # this is the filter that the rule asks for


def _unpack_zip(archive: Path, folder: Path, move_to: MoveTo) -> None:
    done = 0
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _Space(archive, folder).check(sum(member.file_size for member in members))
        for member in members:
            _check_zipped(opened, member, archive)
        for member in members:
            if not _is_link(member):
                opened.extract(member, folder)
            done += member.compress_size
            move_to(done)


def _check_zipped(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> None:
    """The same rules for zip, whose module would quietly rename such members."""
    _check_relative(member.filename, archive)
    if _leads_out(member.filename):
        raise DataError(f"{archive}: refused, '{member.filename}' would be extracted outside of the folder")
    if _is_link(member):
        with opened.open(member) as content:
            target = content.read(_LINK_TARGET).decode(errors="replace")
        if posixpath.isabs(target) or _leads_out(posixpath.join(posixpath.dirname(member.filename), target)):
            raise DataError(f"{archive}: refused, the link '{member.filename}' leads out of the folder")


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _check_relative(name: str, archive: Path) -> None:
    if re.match(r"[/\\]|[A-Za-z]:", name):
        raise DataError(f"{archive}: refused, '{name}' is an absolute path")


def _leads_out(name: str) -> bool:
    return posixpath.normpath(name.replace("\\", "/")).split("/")[0] == ".."
