"""Which mask belongs to which image: by their names, or by a list of names."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segzoo.data.affixes import NO_AFFIXES, Affixes, likely_affixes
from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.data.listing import Problem
from segzoo.data.pairs import Pair
from segzoo.data.spelling import find_named, halves
from segzoo.data.split_list import ListedLine, listed_twice
from segzoo.data.tree import composed, files_below, is_folder, left_out_line, name_of, subfolders, unlisted_lines
from segzoo.errors import printable

TRAIN_FOLDERS = ("train", "training", "trn")
"""Usual names of the folder with what is trained on."""

VAL_FOLDERS = ("val", "valid", "validation", "dev", "test", "testing")
"""Usual names of the folder with what is measured on."""

_OUTLINES = frozenset({".json", ".txt", ".xml", ".csv"})


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

    def by_name(self) -> dict[str, Path]:
        """All files by their paths in the folder, with and without their endings."""
        files = [*self.of.values(), *self.strangers]
        named = {composed(path.relative_to(self.folder).as_posix()): path for path in files}
        return {composed(stem_of(path, self.folder)): path for path in files} | named


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
        # With sparse masks, a class that no image of a split has may lack its folder, too; the folder of all may not.
        if not is_folder(self.masks) and not (self.sparse and is_folder(self.masks.parent)):
            return [], [Problem("missing mask", self._no_folder())]
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
        if images.of and not pairs and (reason := self._why_none(images, masks)):
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
        return not images.keys() & masks.keys() and _are_of_classes(images, masks)

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
        images = _read(self.images, self.suffixes, self.affixes.of_image)
        if self.images == self.masks:
            own = {core: path for core, path in images.of.items() if self._mask_core(path) is None}
            images = replace(images, of=own, strangers=[])
        return images

    def found_masks(self) -> Files:
        """The masks by what they share with their images."""
        masks = _read(self.masks, IMAGE_SUFFIXES, self.affixes.of_mask)
        return replace(masks, strangers=[]) if self.images == self.masks else masks

    def _mask_core(self, path: Path) -> str | None:
        same = not (self.affixes.mask_prefix or self.affixes.mask_suffix)
        return None if same else self.affixes.of_mask(composed(stem_of(path, self.images)))

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

    def _no_folder(self) -> str:
        line = f"{self.images}: no folder {self.masks}. Put the masks there, under the images' names."
        beside = [path.name for path in subfolders(self.masks.parent) if path != self.images]
        return f"{line} Beside it lie: {', '.join(beside[:5])}." if beside else line

    def _unnamed(self, images: Files, masks: Files) -> Iterator[Problem]:
        for kind, files, one in (("image", images, "unnamed image"), ("mask", masks, "orphan mask")):
            stated = {key: value for key, value in self.affixes.stated().items() if key.startswith(kind)}
            asked = " and ".join(f"data.folder.{key}={value}" for key, value in stated.items())
            for path in files.strangers:
                yield Problem(one, f"{path}: its name has not what {asked} asks for. Rename it.")

    def _why_none(self, images: Files, masks: Files) -> str:
        """Why no image has a mask at all; empty where nothing tells."""
        if not masks.of:
            return "" if masks.strangers or self.sparse else _no_pictures(self.masks)
        if _are_of_classes(images.of, masks.of):
            return f"{self.masks}: a folder of masks for each class. Say so: data.folder.multi_label=true"
        affixes = likely_affixes(images.of, masks.of)
        if self.affixes != NO_AFFIXES or affixes == NO_AFFIXES:
            return ""
        keys = " ".join(f"data.folder.{key}={value}" for key, value in affixes.stated().items())
        image, mask = _example(images.of, masks.of, affixes)
        return f"{self.masks}: no mask has its image's name, but {mask.name} is that of {image.name}. Say so: {keys}"

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
                planes=tuple(own.get(image) for own in masks),
            )
            for image in images
        ], problems

    def listed(self, lines: Sequence[ListedLine]) -> tuple[list[Pair], list[Problem], list[Problem]]:
        """A pair for each line of a split list, problems, and warnings; masks that are not there the list finds out."""
        found = [files.listed(lines) for files in self._of_classes()]
        rows = zip(*(pairs for pairs, _, _ in found), strict=True)
        pairs = [replace(row[0], mask=self.files.masks, planes=tuple(map(self._plane, row))) for row in rows]
        problems = dict.fromkeys(problem for _, faults, _ in found for problem in faults)
        return pairs, list(problems), found[0][2]

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


def stem_of(path: Path, folder: Path) -> str:
    """A file's path in a folder, without its ending."""
    return os.path.splitext(path.relative_to(folder).as_posix())[0]  # noqa: PTH122 (a list may name the folder itself)


def _are_of_classes(images: Collection[str], masks: Iterable[str]) -> bool:
    """Whether masks' paths have one folder more than those of their images, and no split's."""
    splits = {*TRAIN_FOLDERS, *VAL_FOLDERS}
    return any("/" in stem and stem.partition("/")[2] in images for stem in masks if _top(stem) not in splits)


def _read(folder: Path, suffixes: Collection[str], core_of: Callable[[str], str | None]) -> Files:
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


def _no_pictures(folder: Path) -> str:
    """What is in a folder where masks should be."""
    others: list[Path] = []
    files_below(folder, IMAGE_SUFFIXES, others=others)
    if not others:
        return f"{folder}: no mask in this folder. Put the masks there, under the images' names."
    suffix, count = Counter(path.suffix.lower() for path in others).most_common(1)[0]
    example = next(path.name for path in others if path.suffix.lower() == suffix)
    return f"{folder}: no mask, but {outlines(count, suffix, example)}"


def outlines(count: int, suffix: str, example: str) -> str:
    """What files that are no pictures most likely are, and what to do about it."""
    if suffix in _OUTLINES:
        meaning = "outlines or tables. Only pictures are read: let the tool that made them write PNG masks"
    else:
        meaning = f"none of the pictures that are read ({', '.join(sorted(IMAGE_SUFFIXES))})"
    return f"{count} {suffix or 'nameless'} file{'' if count == 1 else 's'} such as {example}, {meaning}."


def _example(images: Mapping[str, Path], masks: Mapping[str, Path], affixes: Affixes) -> tuple[Path, Path]:
    cores = {affixes.of_image(stem): path for stem, path in images.items()}
    return next(
        (cores[core], path)
        for stem, path in masks.items()
        if (core := affixes.of_mask(stem)) is not None and core in cores
    )


def _top(core: str) -> str:
    """The first folder of a path, in lower case."""
    return core.partition("/")[0].lower()


def _bare(core: str) -> str:
    """A name without its folder and its case."""
    return core.rpartition("/")[2].casefold()
