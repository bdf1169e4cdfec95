"""The files and folders below a folder, as everything here sees them: links followed, hidden ones left out."""

import os
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Collection, Iterable
from pathlib import Path

from segzoo.data.reading.images import is_image
from segzoo.errors import printable

_NOT_OURS = frozenset(
    {
        "__macosx", "icon\r",
        "@eadir", "#recycle", "#snapshot", "@recycle", "@tmp",
        "$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini",
        "lost+found",
    }
)  # fmt: skip
"""What macOS, network storage, Windows and file systems put beside people's files."""
_MOST_KINDS = 6  # named in a line about files that are left out


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's own, and none that a person put there."""
    return name.startswith(".") or name.lower() in _NOT_OURS


def subfolders(folder: Path) -> list[Path]:
    """The folders directly below one, sorted, without hidden ones; none where it cannot be listed."""
    return [path for path in _shown(folder) if is_folder(path)]


def files_named(folder: Path, end: str) -> list[Path]:
    """The files directly in a folder whose names end in this, sorted, without hidden ones; none without the folder."""
    return [path for path in _shown(folder) if path.name.endswith(end) and is_file(path)]


def files_below(
    top: Path,
    suffixes: Collection[str],
    *,
    without: Path | None = None,
    hidden: bool = False,
    unlisted: dict[Path, str] | None = None,
    others: list[Path] | None = None,
) -> list[Path]:
    """Regular files at any depth below a folder, sorted, each folder's once whatever links lead to it.

    A folder that is below `top` itself keeps its own name; of several links to one folder elsewhere the first counts.
    Links that lead nowhere and files that cannot be read are among the files, for whoever reads them to report.

    Args:
        top: the folder.
        suffixes: of the files, in lower case. A file without one is among them if a picture is in it.
        without: a folder whose content is left out.
        hidden: take hidden files and folders too.
        unlisted: gets the folders that cannot be listed, with the reason.
        others: gets the files that are not of these suffixes.
    """
    seen = set() if without is None else {_identity(without)} - {_identity(top)}
    folders, links = deque([top]), deque[Path]()  # links come last
    found = []
    while folders or links:
        here = (folders or links).popleft()
        if _identity(here) in seen:
            continue
        seen.add(_identity(here))
        try:
            with os.scandir(here) as entries:
                shown = sorted((entry for entry in entries if hidden or not is_hidden(entry.name)), key=_name)
        except OSError as error:
            if unlisted is not None:
                unlisted[here] = error.strerror or str(error)
            continue
        for entry in shown:
            if entry.is_symlink() and is_folder(entry):
                links.append(Path(entry))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry))
            elif is_of_kind(entry, suffixes):
                found.append(Path(entry))
            elif others is not None and is_file(entry):
                others.append(Path(entry))
    return sorted(found)


def is_of_kind(path: Path | os.DirEntry[str], suffixes: Collection[str]) -> bool:
    """Whether a file has one of these suffixes, or none and a picture in it."""
    suffix = os.path.splitext(path.name)[1].lower()  # noqa: PTH122 (quick)
    if suffix:
        return suffix in suffixes and is_regular(path)
    return is_image(Path(path))


def left_out_line(where: Path, others: Collection[Path]) -> str | None:
    """A line about files among images whose kind is not read; None where there are no such files."""
    if not others:
        return None
    kinds = Counter(printable(path.suffix.lower()) or "without a suffix" for path in others)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_MOST_KINDS))
    more = ", ..." if len(kinds) > _MOST_KINDS else ""
    example = printable(min(others).name)
    files = "1 file of a kind that is not read is" if len(others) == 1 else f"{len(others)} files not read are"
    return f"{printable(where)}: {files} left out: {counts}{more} (such as {example})"


def unlisted_lines(unlisted: dict[Path, str]) -> Iterable[str]:
    """A line for each folder that cannot be listed."""
    for folder, reason in unlisted.items():
        yield f"{folder}: this folder cannot be listed ({reason}); allow it (chmod u+rx) or take it away"


def name_of(path: Path) -> str:
    """The name of a file or folder as text that is the same on every system, with composed accents (`composed`)."""
    return composed(path.name)


def composed(name: str) -> str:
    """As `name_of`, of a name or a path; what macOS decomposes is equal to what others write."""
    return printable(unicodedata.normalize("NFC", name))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """As `Path.is_dir`, which raises where a folder may not be searched or a link leads to itself."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | os.PathLike[str]) -> bool:
    """As `Path.is_file`, which raises where a folder may not be searched or a name is too long."""
    return os.path.isfile(path)  # noqa: PTH113


def is_regular(path: Path | os.DirEntry[str]) -> bool:
    """Whether a path is a file and no pipe, which would block, or a link that leads nowhere, for a reader to report."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _shown(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError:
        return []


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _identity(folder: Path) -> tuple[int, int] | None:
    """What is the same for a folder and all links to it."""
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
