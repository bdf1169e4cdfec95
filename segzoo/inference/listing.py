"""Which images a request means, and what their predictions are called."""

import fnmatch
import glob
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segzoo.data.datasets.splits import numbered_lines, spellings, split_in_two
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.tree import (
    files_below,
    is_file,
    is_folder,
    is_hidden,
    is_of_kind,
    left_out_line,
    unlisted_lines,
)
from segzoo.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

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


def input_path(source: str | Path) -> Path:
    """What was asked to be predicted.

    Raises:
        ConfigError: nothing, which would mean the working folder.
    """
    if source == "":
        raise ConfigError("INPUT: empty. Name an image, a folder, a pattern or a list; . is this folder.")
    return Path(source)


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
    if is_file(source) and source.suffix.lower() == _LIST_SUFFIX:
        return read_list(source)
    if not (is_file(source) or is_folder(source)) and glob.has_magic(str(source)):
        return _matching(source, without, suffixes)
    faults: dict[Path, str] = {}
    images = list_images(source, without=without, suffixes=suffixes, faults=faults)
    return Listing(source if is_folder(source) else source.parent, images, faults)


def list_images(
    source: Path,
    *,
    without: Path,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    faults: dict[Path, str] | None = None,
) -> list[Path]:
    """Regular image files at or below `source`, relative to it, sorted; hidden ones are left out, links followed.

    Args:
        source: a file or a folder.
        without: a folder whose content is left out, such as the output inside the input.
        suffixes: of image files.
        faults: gets the folders that cannot be listed, with the reason.

    Raises:
        ConfigError: nothing there.
    """
    if is_file(source):
        return [Path(source.name)]
    if not is_folder(source):
        raise ConfigError(f"{source}: no such file or folder.")
    unlisted: dict[Path, str] = {}
    others: list[Path] = []
    found = files_below(source, suffixes, without=without, unlisted=unlisted, others=others)
    if faults is not None:
        faults |= {path.relative_to(source): reason for path, reason in unlisted.items()}
    if not found and unlisted:
        raise ConfigError(unlisted_lines(unlisted))
    left_out = left_out_line(source, others)
    if not found:
        known = ", ".join(sorted(suffixes))
        raise ConfigError(f"{source}: no images in this folder ({known}). {left_out or ''}".strip())
    if left_out:
        logger.warning("%s", left_out)
    return [path.relative_to(source) for path in found]


def read_list(path: Path) -> Listing:
    """Images that a text file names, one a line, relative to the list's folder or absolute.

    Lists are read as those of data sets; of a line with an image and its mask, the image is taken. If all images lie
    below the list's folder, their predictions mirror the tree from there; else from the deepest folder that holds them
    all.

    Raises:
        ConfigError: no line names anything, or the list is no text.
    """
    here = Path(os.path.abspath(path.parent))  # noqa: PTH100 (resolve would follow links)
    try:
        lines = numbered_lines(path)
    except DataError as error:
        raise ConfigError(error.problems) from None
    named: dict[Path, int] = {}
    for number, line in lines:
        named.setdefault(_listed_image(line, here), number)
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


def _listed_image(line: str, here: Path) -> Path:
    """The file that a line means; the line as it stands where there is none."""
    for text in (line, *(image for image, _ in split_in_two(line))):
        for spelling in spellings(text):
            path = Path(os.path.normpath(here / spelling))
            if os.path.lexists(path) and not is_folder(path):
                return path
    return Path(os.path.normpath(here / line))


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


def _matching(pattern: Path, without: Path, suffixes: Collection[str]) -> Listing:
    folder = next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))
    parts = pattern.relative_to(folder).parts
    others: list[Path] = []
    if "**" in parts:
        files = files_below(folder, suffixes, without=without, hidden=True, others=others) if is_folder(folder) else []
    else:
        globbed = [path for path in map(Path, glob.glob(str(pattern))) if not _is_below(path, without, folder)]  # noqa: PTH207
        files = [path for path in globbed if is_of_kind(path, suffixes)]
        others = [path for path in globbed if is_file(path) and not is_of_kind(path, suffixes)]
    found, left_out = ({path.relative_to(folder) for path in paths} for paths in (files, others))
    images = sorted(path for path in found if _fits(path.parts, parts))
    line = left_out_line(pattern, [path for path in left_out if _fits(path.parts, parts)])
    if not images:
        raise ConfigError(f"{pattern}: no image matches ({', '.join(sorted(suffixes))}). {line or ''}".strip())
    if line:
        logger.warning("%s", line)
    return Listing(folder, images)


def _is_below(path: Path, without: Path, folder: Path) -> bool:
    """Whether a path is in a folder that is left out, which may be a folder of the input but not the input itself."""
    forbidden, top, real = (os.path.realpath(name) for name in (without, folder, path.parent))
    return forbidden != top and Path(real).is_relative_to(forbidden)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is of a pattern, by their parts; hidden ones are of patterns that name them or have the dot."""
    if not parts:
        return set(pattern) <= {"**"}
    if not pattern:
        return False
    hidden = is_hidden(parts[0]) and not pattern[0].startswith(".") and parts[0] != pattern[0]
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
