"""The pictures in a folder, by the part of their names that images and masks share."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from segzoo.data.listing import Problem
from segzoo.data.tree import composed, files_below, is_folder, unlisted_lines

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
