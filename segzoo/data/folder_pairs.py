"""Which mask belongs to which image: by their names, or by a list of names."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.data.listing import Problem
from segzoo.data.pairs import Pair
from segzoo.data.split_list import ListedLine
from segzoo.data.tree import files_below, is_folder, left_out_line, name_of, subfolders


@dataclass(frozen=True)
class NamedFiles:
    """A folder with images and one with masks whose names tell what belongs together.

    Args:
        images: folder of the images.
        masks: folder of the masks; may be the same one where `mask_suffix` tells them apart.
        suffixes: of the image files.
        mask_suffix: what a mask's stem has after the image's.
        sparse: an image may lack a mask.
    """

    images: Path
    masks: Path
    suffixes: frozenset[str]
    mask_suffix: str = ""
    sparse: bool = False

    def pairs(self) -> tuple[list[Pair], list[Problem]]:
        """All images that have a mask, by stem, and every fault that names show."""
        # With sparse masks, a class that no image of a split has may lack its folder, too; the folder of all may not.
        if not is_folder(self.masks) and not (self.sparse and is_folder(self.masks.parent)):
            line = f"{self.images}: no folder {self.masks}. Put the masks there, under the images' names."
            return [], [Problem("missing mask", line)]
        images, image_problems = self._images()
        if not images:
            line = f"{self.images}: no images. Known: {', '.join(sorted(self.suffixes))}. {self.passed_over() or ''}"
            return [], [Problem("empty split", line.strip())]
        masks, mask_problems = self._masks()
        pairs = [Pair(stem, image, masks[stem]) for stem, image in images.items() if stem in masks]
        if not pairs and not self.mask_suffix and (suffix := _likely_suffix(images, masks)):
            return [], [Problem("missing mask", self._suffix_line(suffix, masks))]
        if not pairs and _are_of_classes(images, masks):
            line = f"{self.masks}: a folder of masks for each class. Say so: data.folder.multi_label=true"
            return [], [Problem("missing mask", line)]
        return pairs, [*image_problems, *mask_problems, *self._unpaired(images, masks)]

    def passed_over(self) -> str | None:
        """A line about files in the images' folder that are none; None where there are none."""
        others: list[Path] = []
        files_below(self.images, self.suffixes, others=others)
        return left_out_line(self.images, others)

    def likely_mask_suffix(self) -> str:
        """What most masks' names have after those of images, where none has an image's own name; else nothing."""
        images, masks = self._images()[0], self._masks()[0]
        return "" if images.keys() & masks.keys() else _likely_suffix(images, masks)

    def have_class_folders(self) -> bool:
        """Whether the masks lie in a folder for each class."""
        images, masks = self._images()[0], self._masks()[0]
        return not images.keys() & masks.keys() and _are_of_classes(images, masks)

    def listed(self, lines: Iterable[ListedLine]) -> list[Pair]:
        """A pair for each line of a split list; files that are not there are found out by the list."""
        images, _ = self._images()
        masks, _ = self._masks()
        return [self._listed_pair(line, images, masks) for line in lines]

    def _listed_pair(self, line: ListedLine, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pair:
        """The files of a line: a stem, or a stem with the image's suffix."""
        stem = line.text
        path = Path(line.text)
        if stem not in images and path.with_suffix("").as_posix() in images:
            stem = path.with_suffix("").as_posix()
        image = images.get(stem, self.images / stem)
        return Pair(stem, image, masks.get(stem, self.masks / self._mask_name(stem)), line.place)

    def _images(self) -> tuple[dict[str, Path], list[Problem]]:
        images, problems = _by_stem(self.images, self.suffixes)
        if self.mask_suffix and self.images == self.masks:
            images = {stem: path for stem, path in images.items() if not stem.endswith(self.mask_suffix)}
        return images, problems

    def _masks(self) -> tuple[dict[str, Path], list[Problem]]:
        """Masks by the stem of their image, and a problem for every one that has not the suffix."""
        masks, problems = _by_stem(self.masks, IMAGE_SUFFIXES)
        suffix = self.mask_suffix
        others = [path for stem, path in masks.items() if not stem.endswith(suffix) and self.masks != self.images]
        problems += [
            Problem("orphan mask", f"{path}: no '{suffix}' before its ending (data.folder.mask_suffix). Rename it.")
            for path in others
        ]
        return {stem.removesuffix(suffix): path for stem, path in masks.items() if stem.endswith(suffix)}, problems

    def _unpaired(self, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Problem]:
        folder = self.masks.relative_to(os.path.commonpath((self.images, self.masks)))
        missing = [
            Problem(
                "missing mask", f"{images[stem]}: no mask {folder / self._mask_name(stem)}. Add it or remove the image."
            )
            for stem in images
            if stem not in masks and not self.sparse
        ]
        orphans = [
            Problem("orphan mask", f"{masks[stem]}: no image of this name. Add it or remove the mask.")
            for stem in masks
            if stem not in images
        ]
        return [*missing, *orphans]

    def _mask_name(self, stem: str) -> str:
        return f"{stem}{self.mask_suffix}.png"

    def _suffix_line(self, suffix: str, masks: Mapping[str, Path]) -> str:
        example = next(path.name for stem, path in masks.items() if stem.endswith(suffix))
        return (
            f"{self.masks}: no mask has its image's name, but masks such as {example} have '{suffix}' after it. "
            f"Say so: data.folder.mask_suffix={suffix}"
        )


@dataclass(frozen=True)
class ClassFiles:
    """As `NamedFiles`, with a folder of masks for each class in the one of the masks.

    Args:
        files: where images and the classes' folders are.
        classes: names of those folders.
    """

    files: NamedFiles
    classes: tuple[str, ...]

    def pairs(self) -> tuple[list[Pair], list[Problem]]:
        """All images that have the masks they need, and every fault that names show."""
        listings = [files.pairs() for files in self._of_classes()]
        problems = [
            _with_advice(problem) for problem in dict.fromkeys(fault for _, found in listings for fault in found)
        ]
        masks = [{pair.id: pair.mask for pair in pairs} for pairs, _ in listings]
        images = self.files._images()[0]
        if not self.files.sparse:
            images = {stem: path for stem, path in images.items() if all(stem in own for own in masks)}
        planes = {stem: tuple(own.get(stem) for own in masks) for stem in images}
        return [Pair(stem, path, self.files.masks, planes=planes[stem]) for stem, path in images.items()], problems

    def listed(self, lines: Iterable[ListedLine]) -> list[Pair]:
        """A pair for each line of a split list; files that are not there are found out by the list."""
        lines = list(lines)
        rows = zip(*(files.listed(lines) for files in self._of_classes()), strict=True)
        return [replace(row[0], mask=self.files.masks, planes=tuple(map(self._plane, row))) for row in rows]

    def _plane(self, pair: Pair) -> Path | None:
        return None if self.files.sparse and not pair.mask.exists() else pair.mask

    def _of_classes(self) -> list[NamedFiles]:
        folders = {name_of(path): path for path in subfolders(self.files.masks)}
        return [replace(self.files, masks=folders.get(name, self.files.masks / name)) for name in self.classes]


def _with_advice(problem: Problem) -> Problem:
    if problem.kind != "missing mask":
        return problem
    return Problem(problem.kind, f"{problem.line} Where no file means no such class: data.folder.sparse_masks=true")


def class_folders(masks: Path) -> tuple[str, ...]:
    """Names of the folders in one of masks, in order."""
    return tuple(map(name_of, subfolders(masks)))


def _are_of_classes(images: Collection[str], masks: Iterable[str]) -> bool:
    """Whether a mask's path has one folder more than its image's."""
    return any("/" in stem and stem.partition("/")[2] in images for stem in masks)


def _likely_suffix(images: Collection[str], masks: Collection[str]) -> str:
    """What most masks' stems have after the stem of an image; empty where there is no such thing."""
    found = Counter(
        stem[mark.start() :]
        for stem in masks
        for mark in re.finditer(r"[_.\- ]", stem)
        if stem[: mark.start()] in images
    )
    suffix, count = max(found.items(), key=lambda item: item[1], default=("", 0))
    return suffix if 2 * count > len(masks) else ""


def _by_stem(folder: Path, suffixes: Collection[str]) -> tuple[dict[str, Path], list[Problem]]:
    """Files by path without suffix, and a problem for every name that two files share."""
    named: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(folder, suffixes):
        named[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    problems = [
        Problem(
            "two files, one name",
            f"{paths[0]}: {', '.join(path.name for path in paths[1:])} has the same name but for the suffix. "
            "Rename one.",
        )
        for paths in named.values()
        if len(paths) > 1
    ]
    return {stem: paths[0] for stem, paths in named.items()}, problems
