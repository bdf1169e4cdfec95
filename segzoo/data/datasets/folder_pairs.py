"""Which mask belongs to which image: by their names, or by a list of names."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segzoo.data.datasets.folder_advice import no_folder, why_none
from segzoo.data.datasets.folder_files import (
    NO_AFFIXES,
    Affixes,
    Files,
    are_of_classes,
    likely_affixes,
    read_files,
    stem_of,
)
from segzoo.data.datasets.listing import Problem
from segzoo.data.datasets.pairs import Pair
from segzoo.data.datasets.splits import ListedLine, find_named, halves, listed_twice
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.tree import composed, files_below, is_folder, left_out_line, name_of, subfolders
from segzoo.errors import printable


@dataclass(frozen=True)
class NamedFiles:
    """A folder with images and one with masks whose names tell what belongs together.

    Args:
        images: folder of the images.
        masks: folder of the masks; may be the same one where `affixes` tell them apart.
        suffixes: of the image files.
        affixes: what names have around the part that an image and its mask share.
        sparse: an image may lack a mask.
    """

    images: Path
    masks: Path
    suffixes: frozenset[str]
    affixes: Affixes = NO_AFFIXES
    sparse: bool = False

    def pairs(self) -> tuple[list[Pair], list[Problem]]:
        """All images that have a mask, by their names, and every fault that names show."""
        if not self._have_masks():
            return [], [Problem("missing mask", no_folder(self.images, self.masks))]
        images, masks = self.found_images(), self.found_masks()
        pairs = [
            Pair(printable(stem_of(path, self.images)), path, masks.of[core])
            for core, path in images.of.items()
            if core in masks.of
        ]
        problems = [*images.problems, *self._unnamed(images, masks), *masks.problems]
        if images.unlisted or masks.unlisted:
            return pairs, problems
        if not images.of and not images.strangers:
            line = f"{self.images}: no images. Known: {', '.join(sorted(self.suffixes))}. {self.passed_over() or ''}"
            return [], [Problem("empty split", line.strip())]
        if not pairs and (reason := why_none(images, masks, self.affixes, sparse=self.sparse)):
            return [], [Problem("missing mask", reason)]
        return pairs, [*problems, *self._unpaired(images.of, masks.of)]

    def passed_over(self) -> str | None:
        """A line about files in the images' folder that are none; None where there are none."""
        others: list[Path] = []
        files_below(self.images, self.suffixes, others=others)
        return left_out_line(self.images, others)

    def likely_affixes(self) -> Affixes:
        """What most names have around the part that images and masks share; nothing where some are simply equal."""
        images, masks = self.found_images(), self.found_masks()
        return NO_AFFIXES if images.of.keys() & masks.of.keys() else likely_affixes(images.of, masks.of)

    def have_class_folders(self) -> bool:
        """Whether the masks lie in a folder for each class."""
        images, masks = self.found_images().of, self.found_masks().of
        return not images.keys() & masks.keys() and are_of_classes(images, masks)

    def listed(self, lines: Iterable[ListedLine]) -> tuple[list[Pair], list[Problem], list[Problem]]:
        """A pair for each line of a split list, problems, and warnings; masks that are not there the list finds out."""
        images, masks = self.found_images(), self.found_masks()
        if images.unlisted or masks.unlisted:
            return [], [*images.problems, *masks.problems], []
        image_names, mask_names = images.by_name(), masks.by_name()
        pairs: dict[Path, Pair] = {}
        problems, warnings = [], []
        for line in lines:
            image, mask = self._files_of(line.text, image_names, mask_names)
            path = line.text.replace("\\", "/")
            if image is None and (path.startswith("/") or path[1:3] == ":/"):
                text = f"'{line.text}' leads out of the data set; write what comes after {self.images} in the path"
                problems.append(Problem("refused line", f"{line.place}: {text}"))
                continue
            image = image or self.images / path  # which the list finds out not to be there
            if image in pairs:
                warnings.append(listed_twice(line))
                continue
            stem = stem_of(image, self.images)
            core = self.affixes.of_image(composed(stem)) or composed(stem)
            mask = mask or masks.of.get(core, self.masks / f"{self.affixes.mask_stem(core)}.png")
            pairs[image] = Pair(printable(stem), image, mask, line.place)
        return list(pairs.values()), problems, warnings

    def found_images(self) -> Files:
        """The images, without what is a mask where both lie in one folder."""
        images = read_files(self.images, self.suffixes, self.affixes.of_image)
        if self.images == self.masks:
            own = {core: path for core, path in images.of.items() if self._mask_core(path) is None}
            images = replace(images, of=own, strangers=[])
        return images

    def found_masks(self) -> Files:
        """The masks by what they share with their images."""
        masks = read_files(self.masks, IMAGE_SUFFIXES, self.affixes.of_mask)
        return replace(masks, strangers=[]) if self.images == self.masks else masks

    def _have_masks(self) -> bool:
        """Whether there is a folder of masks, and they are other files than the images."""
        if self.images == self.masks:
            return self.affixes.tell_apart
        # With sparse masks, a class that no image of a split has may lack its folder, too; the folder of all may not.
        return is_folder(self.masks) or (self.sparse and is_folder(self.masks.parent))

    def _mask_core(self, path: Path) -> str | None:
        return self.affixes.of_mask(composed(stem_of(path, self.images))) if self.affixes.tell_apart else None

    def _files_of(
        self, text: str, images: Mapping[str, Path], masks: Mapping[str, Path]
    ) -> tuple[Path | None, Path | None]:
        """The image of a line, and its mask where the line names one, too."""
        image = find_named(text, self.images, images)
        if image is not None:
            return image, None
        for left, right in halves(text):
            image, mask = find_named(left, self.images, images), find_named(right, self.masks, masks)
            if image is not None and mask is not None:
                return image, mask
        return None, None

    def _unnamed(self, images: Files, masks: Files) -> Iterator[Problem]:
        for kind, files, one in (("image", images, "unnamed image"), ("mask", masks, "orphan mask")):
            stated = {key: value for key, value in self.affixes.stated().items() if key.startswith(kind)}
            asked = " and ".join(f"data.folder.{key}={value}" for key, value in stated.items())
            for path in files.strangers:
                yield Problem(one, f"{path}: its name has not what {asked} asks for. Rename it.")

    def _unpaired(self, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Problem]:
        folder = self.masks.relative_to(os.path.commonpath((self.images, self.masks)))
        missing = [] if self.sparse else [core for core in images if core not in masks]
        orphans = {core: path for core, path in masks.items() if core not in images}
        alike = {_bare(core): core for core in orphans}
        problems = []
        for core in missing:
            line = f"{images[core]}: no mask {folder / self.affixes.mask_stem(core)}.png"
            like = alike.get(_bare(core))
            if like is None:
                problems.append(Problem("missing mask", f"{line}. Add it or remove the image."))
            else:
                found = orphans.pop(like, masks[like]).relative_to(self.masks)
                advice = "give both the same sub-folder and spelling."
                problems.append(Problem("missing mask", f"{line}, but {folder / found} has its name; {advice}"))
        problems += [
            Problem("orphan mask", f"{path}: no image of this name. Add it or remove the mask.")
            for path in orphans.values()
        ]
        return problems


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
        masks = [{pair.image: pair.mask for pair in pairs} for pairs, _ in listings]
        images = list(self.files.found_images().of.values())
        if not self.files.sparse:
            images = [image for image in images if all(image in own for own in masks)]
        return [
            Pair(
                printable(stem_of(image, self.files.images)),
                image,
                self.files.masks,
                class_masks=tuple(own.get(image) for own in masks),
            )
            for image in images
        ], problems

    def listed(self, lines: Sequence[ListedLine]) -> tuple[list[Pair], list[Problem], list[Problem]]:
        """A pair for each line of a split list, problems, and warnings; masks that are not there the list finds out."""
        found = [files.listed(lines) for files in self._of_classes()]
        rows = zip(*(pairs for pairs, _, _ in found), strict=True)
        pairs = [replace(row[0], mask=self.files.masks, class_masks=tuple(map(self._class_mask, row))) for row in rows]
        problems = dict.fromkeys(problem for _, faults, _ in found for problem in faults)
        return pairs, list(problems), found[0][2]

    def _class_mask(self, pair: Pair) -> Path | None:
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


def _bare(core: str) -> str:
    """A name without its folder and its case."""
    return core.rpartition("/")[2].casefold()
