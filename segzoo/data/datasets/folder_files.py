"""The pictures in a folder, by the part of their names that images and masks share, and what stands around it."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from segzoo.data.datasets.listing import Problem
from segzoo.data.reading.tree import composed, files_below, is_folder, unlisted_lines


@dataclass(frozen=True)
class Affixes:
    """What stands before and after the shared part of a name: `image_7_sat.jpg` belongs to `mask_7_label.png`.

    Args:
        image_prefix: before it in an image's name.
        image_suffix: after it in an image's name.
        mask_prefix: before it in a mask's name.
        mask_suffix: after it in a mask's name.
    """

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


NO_AFFIXES = Affixes()
"""An image and its mask have one name."""

_MASK_WORDS = ("mask", "label", "lbl", "seg", "gt", "truth", "ann", "manual", "target")


def likely_affixes(images: Collection[str], masks: Collection[str]) -> Affixes:
    """The affixes with which most masks belong to an image: as few and as short ones as do; none where nothing fits.

    Args:
        images: paths without endings.
        masks: the same of masks.
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


def affixes_in_one_folder(stems: Collection[str]) -> Affixes:
    """What tells the masks in a folder from its images, if a word such as mask does; none where nothing fits.

    Args:
        stems: paths of all files, without endings.
    """
    best, most = NO_AFFIXES, 0
    for prefix, suffix in _ends(stems, share=1 / 3):
        if bool(prefix) == bool(suffix) or not any(word in f"{prefix}{suffix}".lower() for word in _MASK_WORDS):
            continue
        masks = {stem for stem in stems if _core(stem, prefix, suffix) is not None}
        affixes = likely_affixes({*stems} - masks, masks)
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


TRAIN_FOLDERS = ("train", "training", "trn")
"""Usual names of the folder with what is trained on."""

VAL_FOLDERS = ("val", "valid", "validation", "dev", "test", "testing")
"""Usual names of the folder with what is measured on."""


@dataclass
class Files:
    """The pictures in a folder.

    Args:
        folder: where they are.
        of: files by the part of their paths, without endings, that images and masks share.
        strangers: files whose names have not what they have to have around that part.
        problems: names that two files share, and folders that cannot be listed.
        unlisted: whether there are such folders: a file that is not here may be there.
    """

    folder: Path
    of: dict[str, Path] = field(default_factory=dict)
    strangers: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unlisted: bool = False

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
    files.problems = [Problem("unlisted folder", line) for line in unlisted_lines(unlisted)]
    files.problems += [
        Problem(
            "two files, one name",
            f"{paths[0]}: {', '.join(path.name for path in paths[1:])} has the same name but for the suffix. "
            "Rename one.",
        )
        for paths in named.values()
        if len(paths) > 1
    ]
    return files


def stem_of(path: Path, folder: Path) -> str:
    """A file's path in a folder, without its ending."""
    return os.path.splitext(path.relative_to(folder).as_posix())[0]  # noqa: PTH122 (a list may name the folder itself)


def are_of_classes(images: Collection[str], masks: Iterable[str]) -> bool:
    """Whether masks' paths have one folder more than those of their images, and no split's."""
    splits = {*TRAIN_FOLDERS, *VAL_FOLDERS}
    tops = ((stem, stem.partition("/")[0].lower()) for stem in masks)
    return any("/" in stem and stem.partition("/")[2] in images for stem, top in tops if top not in splits)
