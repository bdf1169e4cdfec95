"""The plan of a prediction: which images a request means, and the files that each of them becomes."""

import fnmatch
import glob
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from segzoo.data.datasets.splits import numbered_lines, spellings, split_in_two
from segzoo.data.pictures import GridImage
from segzoo.data.reading.images import IMAGE_SUFFIXES, MAX_PIXELS, is_image
from segzoo.data.reading.tiff import TIFF_SUFFIXES, read_tiff_header
from segzoo.data.reading.tree import (
    files_below,
    is_file,
    is_folder,
    is_hidden,
    is_of_kind,
    left_out_line,
    unlisted_lines,
)
from segzoo.errors import ConfigError, DataError, printable
from segzoo.inference.outputs import KINDS, Targets

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Job:
    """One image and the files that it becomes.

    Args:
        image: relative to the listing's folder.
        file: where it is.
        targets: files of every kind.
        is_raster: read and written by windows.
        is_shown: stands on the image grid.
    """

    image: Path
    file: Path
    targets: Targets
    is_raster: bool = False
    is_shown: bool = False

    @property
    def files(self) -> list[Path]:
        """All files that it becomes."""
        return [path for paths in self.targets.values() for path in paths]

    @property
    def name(self) -> str:
        """The image for reports."""
        return printable(self.image)


class Content(BaseModel, frozen=True):
    """What was found in an image.

    Args:
        pixels: of each class that it has, by the class's number; none of what nobody counted.
        size: pixels of the image; 0 where nobody counted.
        top: of a classifier: classes with their probabilities, the most probable first.
    """

    pixels: dict[int, int] = {}
    size: int = 0
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Result:
    """What became of a job.

    Args:
        job: which.
        content: what was found in the image, whose files are written.
        shown: what the image grid shows of it.
        fault: why there are no files.
    """

    job: Job
    content: Content | None = None
    shown: GridImage | None = None
    fault: str | None = None


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


@dataclass(frozen=True)
class Shard:
    """Every `count`-th image from `index` on, so that several processes or machines share one listing."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"--shard: {self.index}/{self.count} is none. Shards are 0/N to N-1/N, such as 0/4.")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`i/n` as a command line has it."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ConfigError(f"--shard: {text!r} is no i/n. Shards are 0/N to N-1/N, such as 0/4.")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Those that are this shard's."""
        return items[self.index :: self.count]

    def file_name(self, name: str) -> str:
        """The name of a file that each shard has for its own.

        >>> Shard().file_name("done.jsonl"), Shard(0, 3).file_name("done.jsonl")
        ('done.jsonl', 'done_0_of_3.jsonl')
        """
        stem, dot, suffix = name.rpartition(".")
        return name if self.count == 1 else f"{stem}_{self.index}_of_{self.count}{dot}{suffix}"


# --- which images


def find_images(source: Path, *, without: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Listing:
    """The images that a file, a folder, a glob pattern or a list in a `.txt` file names.

    Below folders these are regular files, links followed, hidden ones left out, sorted.

    Args:
        source: what exists is taken as a path, even with brackets in its name; else it may be a pattern such as
            `photos/**/*.jpg`.
        without: a folder whose content is left out, such as the output inside the input.
        suffixes: of image files, for folders and patterns.

    Raises:
        ConfigError: nothing there.
    """
    if is_file(source):
        return _listed(source) if source.suffix.lower() == _LIST_SUFFIX else Listing(source.parent, [Path(source.name)])
    if is_folder(source):
        return _below(source, without, suffixes)
    if glob.has_magic(str(source)):
        return _matching(source, without, suffixes)
    raise ConfigError(f"{source}: no such file or folder.")


def _below(folder: Path, without: Path, suffixes: Collection[str]) -> Listing:
    unlisted: dict[Path, str] = {}
    others: list[Path] = []
    found = files_below(folder, suffixes, without=without, unlisted=unlisted, others=others)
    if not found and unlisted:
        raise ConfigError(unlisted_lines(unlisted))
    left_out = left_out_line(folder, others)
    if not found:
        known = ", ".join(sorted(suffixes))
        raise ConfigError(f"{folder}: no images in this folder ({known}). {left_out or ''}".strip())
    if left_out:
        logger.warning("%s", left_out)
    faults = {path.relative_to(folder): reason for path, reason in unlisted.items()}
    return Listing(folder, [path.relative_to(folder) for path in found], faults)


def _listed(path: Path) -> Listing:
    """Images that a text file names, one a line, relative to the list's folder or absolute.

    Lists are read as those of data sets; of a line with an image and its mask, the image is taken. If all images lie
    below the list's folder, their predictions mirror the tree from there; else from the deepest folder that holds them
    all.
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


def is_raster(path: Path) -> bool:
    """Whether a file is a TIFF to be read by windows: one that lies somewhere on Earth, or is too large to read whole.

    Files of other kinds are not opened, nor is anything but a TIFF's first header read.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    header = read_tiff_header(path)
    return header is not None and (header.has_place or header.height * header.width > MAX_PIXELS)


# --- what they become


def output_names(listing: Listing, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[Path, Path]:
    """Image -> mask, both relative: the same tree, `<stem>.png`.

    Where images of a folder would share a name, ignoring case, all of them become `<stem>_<ext>.png`; a remaining clash
    adds a short hash of the image's name. What counts is which images lie in the folder, not which of them are asked
    for: in a shard, in a list and alone, an image has the name that it has in the whole folder. Folders whose names
    differ in case alone count as one where both are asked for; there the hash is that of the path.

    Args:
        listing: the images.
        suffixes: of the files that are images.
    """
    alike: dict[str, list[Path]] = {}
    for folder in dict.fromkeys(image.parent for image in listing.images):
        alike.setdefault(str(folder).casefold(), []).append(folder)
    names: dict[Path, Path] = {}
    for folders in alike.values():
        names |= _distinct(image for folder in folders for image in _images_in(listing.folder, folder, suffixes))
    return {image: names.get(image) or _name_of_other(image, listing.folder, names) for image in listing.images}


def _images_in(root: Path, folder: Path, suffixes: Collection[str]) -> list[Path]:
    try:
        with os.scandir(root / folder) as entries:
            return [folder / entry.name for entry in entries if is_of_kind(entry, suffixes)]
    except OSError:  # a folder whose files may be opened, but not listed
        return []


def _name_of_other(image: Path, root: Path, names: Collection[Path]) -> Path:
    """The name of an image that a request names, though its suffix is not an image's."""
    stem = image.stem.casefold()
    same = [path for path in names if path.parent == image.parent and path.stem.casefold() == stem]
    try:
        files = [path for path in (root / image.parent).iterdir() if path.stem.casefold() == stem]
    except OSError:
        files = []
    others = [image.with_name(path.name) for path in files if is_image(path)]
    return _distinct([*same, *others, image])[image]


def _distinct(images: Iterable[Path]) -> dict[Path, Path]:
    """Names of which no two are equal, ignoring case."""
    names = {image: image.with_name(f"{image.stem}.png") for image in images}
    names |= {image: _with_extension(image) for image in _clashing(names)}
    in_one_folder = len({image.parent for image in names}) == 1
    for image in _clashing(names):
        hashed = os.fsencode(image.name if in_one_folder else image)
        names[image] = _with_extension(image, f"_{hashlib.sha256(hashed).hexdigest()[:8]}")
    return names


def _clashing(names: Mapping[Path, Path]) -> list[Path]:
    counts = Counter(str(name).casefold() for name in names.values())
    return [image for image, name in names.items() if counts[str(name).casefold()] > 1]


def _with_extension(image: Path, digest: str = "") -> Path:
    return image.with_name(f"{image.stem}_{image.suffix.removeprefix('.')}{digest}.png")


def check_jobs(jobs: Sequence[Job]) -> None:
    """Refuse jobs that would spoil each other's files, or the input's."""
    _check_clashes(jobs)
    _check_inputs(jobs)


def _check_clashes(jobs: Iterable[Job]) -> None:
    """Only folders of the input that are called as we call those of a kind, such as `_color`, can bring this about."""
    files = [path for job in jobs for path in job.files]
    counts = Counter(str(path).casefold() for path in files)
    twice = [path for path in files if counts[str(path).casefold()] > 1]
    if twice:
        folders = ", ".join(f"_{kind}" for kind in KINDS if kind != "mask")
        raise ConfigError(
            f"{printable(twice[0])}: two outputs would have this name. Rename the input's folder: {folders} hold the "
            "other kinds of output."
        )


def _check_inputs(jobs: Iterable[Job]) -> None:
    """No output is an image of the input; folders are compared as the system finds them, links followed."""
    folders: dict[Path, str] = {}

    def place(path: Path) -> tuple[str, str]:
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        return folders[path.parent], path.name

    inputs = {place(job.file) for job in jobs}
    replaced = [path for job in jobs for path in job.files if place(path) in inputs]
    if replaced:
        raise ConfigError(f"--output: {printable(replaced[0])} is an image of the input. Name another folder.")
