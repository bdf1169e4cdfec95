"""Which images a request means, and what their predictions are called."""

import codecs
import fnmatch
import glob
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.errors import ConfigError, first_line

_LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Listing:
    """The images of a request.

    Args:
        folder: what they are relative to.
        images: relative paths in a fixed order, none twice.
        faults: what is known to be wrong before anything is opened: path -> reason.
    """

    folder: Path
    images: list[Path]
    faults: dict[Path, str] = field(default_factory=dict)


def find_images(source: Path, *, without: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Listing:
    """The images that a file, a folder, a glob pattern or a list in a `.txt` file names.

    Args:
        source: what exists is taken as a path, even with brackets in its name; else it may be a pattern such as
            `photos/**/*.jpg`.
        without: a folder whose content is left out, such as the output inside the input.
        suffixes: of image files, for folders and patterns.

    Raises:
        ConfigError: nothing there.
    """
    if source.is_file() and source.suffix.lower() == _LIST_SUFFIX:
        return read_list(source)
    if not source.exists() and glob.has_magic(str(source)):
        return _matching(source, without, suffixes)
    faults: dict[Path, str] = {}
    images = list_images(source, without=without, suffixes=suffixes, faults=faults)
    return Listing(source if source.is_dir() else source.parent, images, faults)


def list_images(
    source: Path,
    *,
    without: Path,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    faults: dict[Path, str] | None = None,
) -> list[Path]:
    """Regular image files at or below `source`, relative to it, sorted; links to folders are not followed.

    Args:
        source: a file or a folder.
        without: a folder whose content is left out, such as the output inside the input.
        suffixes: of image files.
        faults: gets the folders that cannot be listed, with the reason.

    Raises:
        ConfigError: nothing there.
    """
    if source.is_file():
        return [Path(source.name)]
    if not source.is_dir():
        raise ConfigError(f"{source}: no such file or folder.")
    unlisted: list[OSError] = []
    found = []
    for folder, subfolders, files in os.walk(source, followlinks=False, onerror=unlisted.append):
        subfolders[:] = [name for name in subfolders if Path(folder, name).resolve() != without.resolve()]
        found += [Path(folder, name) for name in files if _is_image(Path(folder, name), suffixes)]
    if faults is not None:
        faults |= {Path(error.filename).relative_to(source): error.strerror or str(error) for error in unlisted}
    if not found:
        raise ConfigError(f"{source}: no images in this folder ({', '.join(sorted(suffixes))}).")
    return sorted(path.relative_to(source) for path in found)


def read_list(path: Path) -> Listing:
    """Images that a text file names, one a line, relative to the list's folder or absolute.

    Empty lines, a byte-order mark and Windows' line ends are accepted. If all images lie below the list's folder, their
    predictions mirror the tree from there; else from the deepest folder that holds them all.

    Raises:
        ConfigError: no line names anything, or the list is no text.
    """
    here = Path(os.path.abspath(path.parent))  # noqa: PTH100 (resolve would follow links)
    named: dict[Path, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            named.setdefault(Path(os.path.normpath(here / line.strip())), number)
    if not named:
        raise ConfigError(f"{path}: names no image.")
    outside = [image for image in named if not image.is_relative_to(here)]
    folder = Path(os.path.commonpath([image.parent for image in named])) if outside else here
    faults = {
        image.relative_to(folder): f"no such file ({path.name}, line {number})"
        for image, number in named.items()
        if not os.path.lexists(image)
    }
    return Listing(folder, [image.relative_to(folder) for image in named if os.path.lexists(image)], faults)


def mask_names(images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> mask, both relative: the same tree, `<stem>.png`.

    Where images would share a name, ignoring case, all of them become `<stem>_<ext>.png`; a remaining clash
    adds a short hash of the path. Computed over the whole listing, so that shards agree.

    >>> list(mask_names([Path("a.jpg"), Path("a.png"), Path("sub/a.jpg")]).values())
    [PosixPath('a_jpg.png'), PosixPath('a_png.png'), PosixPath('sub/a.png')]
    """
    names = {image: image.with_name(f"{image.stem}.png") for image in images}
    clashing = _clashing(names)
    names |= {image: _with_extension(image) for image in clashing}
    names |= {image: _with_hash(image) for image in _clashing(names)}
    return names


def printable(path: Path | str) -> str:
    r"""A path for reports; bytes that are no UTF-8 are written as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell's > writes
    try:
        # Names of files may be any bytes.
        text = content.decode("utf-16") if utf16 else content.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no list of images ({first_line(error)}).") from None
    if "\0" in text:
        raise ConfigError(f"{path}: no list of images (it holds zero bytes).")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _matching(pattern: Path, without: Path, suffixes: Collection[str]) -> Listing:
    folder = next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))
    forbidden = without.resolve()
    found = [
        path
        for path in _globbed(pattern, folder)
        if _is_image(path, suffixes) and not path.is_dir() and forbidden not in _below(path, folder)
    ]
    if not found:
        raise ConfigError(f"{pattern}: no image matches ({', '.join(sorted(suffixes))}).")
    return Listing(folder, sorted({path.relative_to(folder) for path in found}))


def _below(path: Path, folder: Path) -> Iterator[Path]:
    """The folders that a path is in, below one of them, without links."""
    top = folder.resolve()
    return (parent for parent in path.resolve().parents if parent != top)


def _globbed(pattern: Path, folder: Path) -> Iterator[Path]:
    """As `glob.glob`, but `**` follows no links, which may lead in circles."""
    parts = pattern.relative_to(folder).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(str(pattern)))  # noqa: PTH207 (Path.glob takes no path)
        return
    for here, _, files in os.walk(folder):
        found = (Path(here, name) for name in files)
        yield from (path for path in found if _fits(path.relative_to(folder).parts, parts))


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is of a pattern, by their parts; hidden parts are of patterns with a dot only."""
    if not parts:
        return set(pattern) <= {"**"}
    if not pattern:
        return False
    hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or (not hidden and _fits(parts[1:], pattern))
    return not hidden and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _clashing(names: dict[Path, Path]) -> list[Path]:
    counts = Counter(str(name).casefold() for name in names.values())
    return [image for image, name in names.items() if counts[str(name).casefold()] > 1]


def _with_extension(image: Path) -> Path:
    return image.with_name(f"{image.stem}_{image.suffix.removeprefix('.')}.png")


def _with_hash(image: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(image)).hexdigest()[:8]
    return image.with_name(f"{image.stem}_{image.suffix.removeprefix('.')}_{digest}.png")


def _is_image(path: Path, suffixes: Collection[str]) -> bool:
    """A regular file (a FIFO would block) with an image's suffix; unreadable ones are kept and reported later."""
    if path.suffix.lower() not in suffixes:
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
