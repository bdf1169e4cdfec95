"""The names of images and masks in folders: what pairs share, what stands around it, and why images have no masks.

Where one reason holds for all images, one line for the whole folder says what to do.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, islice, product
from pathlib import Path

from segzoo.data.datasets.listing import Problem, unlisted_folders
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.tree import composed, files_below, files_named, is_folder, is_of_kind, subfolders

TRAIN_FOLDERS = ("train", "training", "trn")
"""Usual names of the folder with what is trained on."""

VAL_FOLDERS = ("val", "valid", "validation", "dev", "test", "testing")
"""Usual names of the folder with what is measured on."""

_MASK_WORDS = ("mask", "label", "lbl", "seg", "gt", "truth", "ann", "manual", "target")
_OUTLINES = frozenset({".json", ".txt", ".xml", ".csv"})
_LOOKED_INTO = 100  # folders


@dataclass(frozen=True)
class Affixes:
    """What stands before and after the shared part of a name: `image_7_sat.jpg` belongs to `mask_7_label.png`."""

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def tell_apart(self) -> bool:
        """Whether masks have other names than images."""
        return (self.mask_prefix, self.mask_suffix) not in {("", ""), (self.image_prefix, self.image_suffix)}

    def of_image(self, stem: str) -> str | None:
        """The shared part of an image's path without its ending; None where the name has not what it should have."""
        return _core(stem, self.image_prefix, self.image_suffix)

    def of_mask(self, stem: str) -> str | None:
        """As `of_image`, of a mask's."""
        return _core(stem, self.mask_prefix, self.mask_suffix)

    def mask_stem(self, core: str) -> str:
        """A mask's path without its ending, by the shared part."""
        folder, slash, name = core.rpartition("/")
        return f"{folder}{slash}{self.mask_prefix}{name}{self.mask_suffix}"

    def stated(self) -> dict[str, str]:
        """Those that there are, by their keys below `data.folder`."""
        return {key: value for key, value in asdict(self).items() if value}

    @property
    def keys(self) -> str:
        """Those that there are, as changes of a configuration."""
        return " ".join(f"data.folder.{key}={value}" for key, value in self.stated().items())


NO_AFFIXES = Affixes()
"""An image and its mask have one name."""


def likely_affixes(images: Collection[str], masks: Collection[str]) -> Affixes:
    """The affixes with which most masks belong to an image: as few and as short ones as do; none where nothing fits.

    Both are paths without endings.
    """
    best, fits = NO_AFFIXES, 0
    image_cores = {ends: _cores(images, *ends) for ends in _ends(images)}
    mask_cores = {ends: _cores(masks, *ends) for ends in [*_ends(masks), *_added(images, masks)]}
    for (image_ends, of_images), (mask_ends, of_masks) in product(image_cores.items(), mask_cores.items()):
        affixes = Affixes(*image_ends, *mask_ends)
        matched = len(of_images.keys() & of_masks.keys())
        if 2 * matched > len(masks) and (matched, *_brevity(affixes)) > (fits, *_brevity(best)):
            best, fits = affixes, matched
    return best


def _affixes_in_one_folder(stems: Collection[str]) -> Affixes:
    """What tells the masks in a folder from its images, if a word such as mask does; none where nothing fits."""
    best, most = NO_AFFIXES, 0
    for prefix, suffix in _ends(stems, share=1 / 3):
        if bool(prefix) == bool(suffix) or not any(word in f"{prefix}{suffix}".lower() for word in _MASK_WORDS):
            continue
        masks = _cores(stems, prefix, suffix).values()
        affixes = likely_affixes({*stems} - {*masks}, masks)
        if len(masks) > most and affixes != NO_AFFIXES:
            best, most = affixes, len(masks)
    return best


def _brevity(affixes: Affixes) -> tuple[int, int]:
    stated = affixes.stated().values()
    return -len(stated), -sum(map(len, stated))


def _cores(stems: Iterable[str], prefix: str, suffix: str) -> Mapping[str, str]:
    found = ((_core(stem, prefix, suffix), stem) for stem in stems)
    return {core: stem for core, stem in found if core is not None}


def _core(stem: str, prefix: str, suffix: str) -> str | None:
    folder, slash, name = stem.rpartition("/")
    if not (name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)):
        return None
    return f"{folder}{slash}{name[len(prefix) : len(name) - len(suffix)]}"


def _ends(stems: Collection[str], share: float = 1 / 2) -> Iterator[tuple[str, str]]:
    """Prefixes with suffixes that more than a share of the names have, the empty ones among them."""
    names = [stem.rpartition("/")[2] for stem in stems]
    before = Counter(name[: mark.end()] for name in names for mark in re.finditer(r"[_.\- ]|[^\W\d_](?=\d)", name))
    after = Counter(name[mark.start() :] for name in names for mark in re.finditer(r"[_.\- ]|(?<=\d)[^\W\d_]", name))
    common = [["", *(end for end, count in found.items() if count > share * len(names))] for found in (before, after)]
    yield from product(*common)


def _added(images: Collection[str], masks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What masks have after the whole name of an image, however many different ones there are."""
    for stem in masks:
        for mark in re.finditer(r"[_.\- ]", stem):
            if stem[: mark.start()] in images:
                yield "", stem[mark.start() :]


@dataclass
class Files:
    """The pictures in a folder, by the part of their paths, without endings, that images and masks share."""

    folder: Path
    of: dict[str, Path] = field(default_factory=dict)
    strangers: list[Path] = field(default_factory=list)  # without what names have to have around that part
    problems: list[Problem] = field(default_factory=list)
    unlisted: bool = False  # whether a folder cannot be listed: a file that is not here may be there

    def by_stem(self) -> dict[str, Path]:
        """All files by their paths in the folder, without endings."""
        return {composed(stem_of(path, self.folder)): path for path in (*self.of.values(), *self.strangers)}

    def by_name(self) -> dict[str, Path]:
        """All files by their paths in the folder, with and without their endings."""
        files = self.by_stem()
        return files | {composed(path.relative_to(self.folder).as_posix()): path for path in files.values()}


def read_files(folder: Path, suffixes: Collection[str], core_of: Callable[[str], str | None]) -> Files:
    """The files of a folder by what `core_of` leaves of their paths."""
    unlisted: dict[Path, str] = {}
    named: dict[str, list[Path]] = defaultdict(list)
    files = Files(folder)
    for path in files_below(folder, suffixes, unlisted=unlisted) if is_folder(folder) else ():
        core = core_of(composed(stem_of(path, folder)))
        if core is None:
            files.strangers.append(path)
        else:
            named[core].append(path)
    files.of = {core: paths[0] for core, paths in named.items()}
    files.unlisted = bool(unlisted)
    files.problems = unlisted_folders(unlisted)
    for first, *others in named.values():
        if others:
            also = ", ".join(path.name for path in others)
            line = f"{first}: {also} has the same name but for the suffix. Rename one."
            files.problems.append(Problem("two files, one name", line))
    return files


def stem_of(path: Path, folder: Path) -> str:
    """A file's path in a folder, without its ending."""
    return os.path.splitext(path.relative_to(folder).as_posix())[0]  # noqa: PTH122 (a list may name the folder itself)


def are_of_classes(images: Collection[str], masks: Iterable[str]) -> bool:
    """Whether masks' paths have one folder more than those of their images, and no split's."""
    splits = {*TRAIN_FOLDERS, *VAL_FOLDERS}
    tops = ((stem, stem.partition("/")[0].lower()) for stem in masks)
    return any("/" in stem and stem.partition("/")[2] in images for stem, top in tops if top not in splits)


def why_none(images: Files, masks: Files, stated: Affixes, *, sparse: bool) -> str:
    """Why no image of a split has a mask at all where these affixes are stated; empty where nothing tells."""
    named, called = images.by_stem(), masks.by_stem()
    if not called or not named:
        return "" if sparse or called else _no_pictures(masks.folder)
    if are_of_classes(images.of, masks.of):
        return f"{masks.folder}: a folder of masks for each class. Say so: data.folder.multi_label=true"
    if stated != NO_AFFIXES and 2 * len(named.keys() & called.keys()) > len(called):
        return f"{masks.folder}: the masks have their images' names. Leave out {stated.keys}"
    affixes = likely_affixes(named, called)
    if affixes in (NO_AFFIXES, stated):
        return ""
    image, mask = _example(named, called, affixes)
    line = f"{masks.folder}: no mask has its image's name, but {mask.name} is that of {image.name}"
    return f"{line}. Say so: {affixes.keys}"


def no_folder(images: Path, masks: Path) -> str:
    """What to do where the folder of the masks is not there, or is that of the images and names tell nothing apart."""
    line = _together(images, Path(os.path.commonpath((images.parent, masks.parent))))
    if line:
        return line
    if images == masks:
        return f"{images}: the folder of the images and of the masks. Name another: data.folder.masks"
    line = f"{images}: no folder {masks}. Put the masks there, under the images' names."
    beside = [path.name for path in subfolders(masks.parent) if path != images]
    return f"{line} Beside it lie: {', '.join(beside[:5])}." if beside else line


def lying_together(root: Path) -> str:
    """What lies in one folder with images, in a data set or up to two levels below; empty where nothing does."""
    inner = subfolders(root)
    folders = chain([root], inner, (path for folder in inner for path in subfolders(folder)))
    return next(filter(None, (_together(folder, root) for folder in islice(folders, _LOOKED_INTO))), "")


def _together(folder: Path, root: Path) -> str:
    """A line about the masks, or the outlines, that lie in a folder with their images; empty where only images do."""
    pictures: dict[str, list[Path]] = defaultdict(list)
    others = []
    for path in files_named(folder, ""):
        if is_of_kind(path, IMAGE_SUFFIXES):
            pictures[path.stem].append(path)
        else:
            others.append(path)
    twice = [paths for paths in pictures.values() if len(paths) > 1]
    if twice and 2 * len(twice) >= len(pictures):
        names = " and ".join(path.name for path in twice[0][:2])
        line = f"{folder}: {len(twice)} names have two pictures, such as {names}"
        return f"{line}. Where one is the other's mask, put the masks into a folder masks/ and the images into images/."
    affixes = _affixes_in_one_folder(pictures)
    if affixes != NO_AFFIXES:
        return f"{folder}: {_apart({stem: paths[0] for stem, paths in pictures.items()}, affixes, folder, root)}"
    beside = [path for path in others if path.stem in pictures]
    if beside and 2 * len(beside) >= len(pictures):
        return f"{folder}: {sum(map(len, pictures.values()))} images, and beside them {_outlines(beside)}"
    return ""


def _apart(pictures: Mapping[str, Path], affixes: Affixes, folder: Path, root: Path) -> str:
    """How to say that images and masks lie in one folder."""
    images = _cores(pictures, affixes.image_prefix, affixes.image_suffix)
    masks = {stem: path for stem, path in pictures.items() if affixes.of_mask(stem) in images}
    image, mask = _example(pictures, masks, affixes)
    parts = [part for part in folder.relative_to(root).parts if part.lower() not in {*TRAIN_FOLDERS, *VAL_FOLDERS}]
    place = "/".join(parts) or "."
    keys = f"data.folder.images={place} data.folder.masks={place} {affixes.keys}"
    return f"{len(masks)} masks lie beside their images, such as {mask.name} beside {image.name}. Say so: {keys}"


def _example(images: Mapping[str, Path], masks: Mapping[str, Path], affixes: Affixes) -> tuple[Path, Path]:
    """An image and its mask."""
    cores = _cores(images, affixes.image_prefix, affixes.image_suffix)
    found = ((affixes.of_mask(stem), path) for stem, path in masks.items())
    return next((images[cores[core]], path) for core, path in found if core is not None and core in cores)


def _no_pictures(folder: Path) -> str:
    """What is in a folder where masks should be."""
    others: list[Path] = []
    files_below(folder, IMAGE_SUFFIXES, others=others)
    if not others:
        return f"{folder}: no mask in this folder. Put the masks there, under the images' names."
    return f"{folder}: no mask, but {_outlines(others)}"


def _outlines(others: list[Path]) -> str:
    """What files that are no pictures most likely are, and what to do about it."""
    suffix, count = Counter(path.suffix.lower() for path in others).most_common(1)[0]
    example = next(path.name for path in others if path.suffix.lower() == suffix)
    if suffix in _OUTLINES:
        meaning = "outlines or tables. Only pictures are read: let the tool that made them write PNG masks"
    else:
        meaning = f"none of the pictures that are read ({', '.join(sorted(IMAGE_SUFFIXES))})"
    return f"{count} {suffix or 'nameless'} file{'' if count == 1 else 's'} such as {example}, {meaning}."
