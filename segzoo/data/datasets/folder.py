"""Any folder of images and masks: which mask belongs to which image, by their names or by a list, and which split."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segzoo.config.schema import DataConfig, FolderConfig
from segzoo.data.datasets.classes import check_not_binary, infer_labels, mask_values, stated_labels
from segzoo.data.datasets.folder_names import (
    NO_AFFIXES,
    TRAIN_FOLDERS,
    Affixes,
    Files,
    are_of_classes,
    likely_affixes,
    lying_together,
    no_folder,
    read_files,
    stem_of,
    why_none,
)
from segzoo.data.datasets.listing import FileDataset, Listing, Pair, Problem, missing_mask, orphan_mask, with_headers
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.datasets.splits import (
    ListedLine,
    find_named,
    list_of_split,
    listed_twice,
    smallest_hashes,
    split_in_two,
)
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.reading.tree import composed, files_below, is_file, is_folder, left_out_line, name_of, subfolders
from segzoo.errors import ConfigError, printable
from segzoo.progress import counted

_LISTED_SPLITS = ("train", "val", "test")


def list_folder(config: DataConfig, split: str, layout: FolderConfig) -> Listing[Pair]:
    """The files of `build_folder`, with what their names show to be wrong."""
    root = dataset_root(config)
    labels = stated_labels(config, root)
    where = f"{root}, split {split}"
    list_files = {name: root / layout.lists / f"{name}.txt" for name in {*_LISTED_SPLITS, split}}
    lists = {name: path for name, path in list_files.items() if is_file(path)}
    folders = _split_folders(root, config, listed=bool(lists))
    flat = _named_files(root / layout.images, root / layout.masks, config)
    if layout.multi_label and labels is None:
        labels = _labels_of_folders(folders.get(config.train_split, flat).masks, layout)
    if split in folders:
        pairs, problems = _by_class(folders[split], labels).pairs()
        warnings = (*_other_classes(folders[split], labels, config), *_left_out(folders[split]))
        return Listing(tuple(pairs), tuple(problems), where, labels, warnings)
    if folders:
        raise unknown_split(split, list(folders), str(root), _one_split(root, next(iter(folders.values()))))
    if not is_folder(root / layout.images):
        raise ConfigError(
            lying_together(root)
            or f"data.root: '{root}' has neither {layout.images}/ and {layout.masks}/ nor train/{layout.images} and "
            f"train/{layout.masks}. Other names: data.folder.images and data.folder.masks."
        )
    files = _by_class(flat, labels)
    instead = ", or take the list away: then a share of all images is held out (data.folder.val_fraction)."
    if lists:
        listed = list_of_split(lists, split, root, instead)
        found, warned = files.listed(listed.lines)
        return listed.listing(found, labels, warned)
    if split not in {"train", "val"}:
        raise unknown_split(split, ["train", "val"], str(root), instead)
    pairs, problems = files.pairs()
    held_out = set(smallest_hashes([pair.id for pair in pairs], layout.val_fraction, layout.split_seed))
    chosen = tuple(pair for pair in pairs if (pair.id in held_out) == (split == "val"))
    if pairs and not chosen:
        problems.append(Problem("empty split", f"{root}: one image makes no train and val split. Add images."))
    return Listing(chosen, tuple(problems), where, labels, tuple(_left_out(flat)) if split == "train" else ())


def _stated_classes(config: DataConfig, layout: FolderConfig) -> LabelSpace | None:
    """The classes as far as the configuration names them."""
    names = config.classes or layout.mask_values or layout.colors
    return LabelSpace.from_names(tuple(names)) if names else None


@register_dataset("folder", options=FolderConfig, reads=("classes",), listing=list_folder, labels=_stated_classes)
def build_folder(config: DataConfig, split: str, layout: FolderConfig) -> FileDataset:
    """Pairs of `images/` and `masks/` with the same stems, in the root or in one folder per split.

    A folder per split holds both (`train/images`, `train/masks`) or lies in both (`images/train`, `masks/train`).
    Without split folders, `train.txt` and `val.txt` in the root list the splits' stems, one a line. Without those, a
    share of the images (`folder.val_fraction`), chosen by their names alone, is `val`, the others are `train`.

    Masks hold class numbers, as gray values or palette indices, unless `folder` says what their values
    (`mask_values`, `mask_offset`) or their colours (`colors`) mean. Classes are those of `mask_values`, `colors`,
    `config.classes` or `classes.txt` (one name a line), else class_0, class_1, ... as many as the training masks hold.

    With `folder.multi_label` a pixel may have several classes: `masks` holds a folder for each class, and those hold a
    mask for each image.

    Raises:
        ConfigError: the folder, its layout or the split is not there.
        DataError: files do not fit together; all problems in one go.
    """
    pixels = PixelFormat.of(config)
    listing = with_headers(list_folder(config, split, layout), pixels)
    pairs = listing.checked()
    labels = listing.labels
    if labels is None:
        training = listing if split == config.train_split else list_folder(config, config.train_split, layout)
        masks = training.checked()
        values = (mask_values(pair) for pair in counted(masks, len(masks), "reading masks"))
        labels = infer_labels(frozenset().union(*values), config)
    elif layout.mask_values is None and layout.colors is None and labels.coding.exclusive:
        check_not_binary(map(mask_values, pairs), str(config.root))
    return FileDataset(pairs, labels, listing.where, pixels)


def _split_folders(root: Path, config: DataConfig, *, listed: bool) -> "dict[str, NamedFiles]":
    """Each split that has folders of its own: `train/images` with `train/masks`, or `images/train` with `masks/train`.

    Where lists say what belongs to a split (`listed`), folders below `images` are only names.
    """
    layout = config.folder
    outer = {path.name: path for path in subfolders(root) if is_folder(path / layout.images)}
    # Beside images of the root's own, folders without one to train on are no splits: copies, raw material.
    if _has_training(outer, config) or (outer and not is_folder(root / layout.images)):
        return {name: _named_files(path / layout.images, path / layout.masks, config) for name, path in outer.items()}
    inner = {path.name: path for path in subfolders(root / layout.images)}
    # Without a folder to train on, folders are days or places, whose pictures belong to both splits.
    if listed or not _has_training(inner, config):
        return {}
    return {name: _named_files(path, root / layout.masks / name, config) for name, path in inner.items()}


def _one_split(root: Path, only: "NamedFiles") -> str:
    """How to hold out a share of the only split that has folders."""
    images, masks = only.images.relative_to(root), only.masks.relative_to(root)
    keys = f"data.folder.images={images.as_posix()} data.folder.masks={masks.as_posix()}"
    return f", or hold out a share of these images (data.folder.val_fraction): {keys}"


def _has_training(splits: Iterable[str], config: DataConfig) -> bool:
    return any(name == config.train_split or name.lower() in TRAIN_FOLDERS for name in splits)


def _named_files(images: Path, masks: Path, config: DataConfig) -> "NamedFiles":
    layout = config.folder
    texts = (layout.image_prefix, layout.image_suffix, layout.mask_prefix, layout.mask_suffix)
    affixes = Affixes(*map(composed, texts))
    return NamedFiles(images, masks, PixelFormat.of(config).suffixes, affixes, sparse=layout.sparse_masks)


def _by_class(files: "NamedFiles", labels: LabelSpace | None) -> "NamedFiles | _ClassFiles":
    """The files, with masks in a folder for each class where the classes ask for it."""
    return files if labels is None or labels.coding.exclusive else _ClassFiles(files, labels.names)


def _left_out(files: "NamedFiles") -> Iterator[Problem]:
    """Files among the images that are no images; beside lists, which name the images, nobody asks for others."""
    if line := files.left_out():
        yield Problem("files left out", line)


def _other_classes(files: "NamedFiles", labels: LabelSpace | None, config: DataConfig) -> Iterator[Problem]:
    """Folders of masks that the classes, read off the training split's, leave out."""
    if labels is None or labels.coding.exclusive or config.classes:
        return
    for name in sorted(set(_class_folders(files.masks)) - set(labels.names)):
        line = f"{files.masks / name}: no class of this name in split {config.train_split}, which decides; not read"
        yield Problem("unknown class", line)


def _class_folders(masks: Path) -> dict[str, Path]:
    return {name_of(path): path for path in subfolders(masks)}


def _labels_of_folders(masks: Path, layout: FolderConfig) -> LabelSpace:
    """A class for each folder of masks."""
    names = tuple(map(name_of, subfolders(masks)))
    if not names:
        raise ConfigError(
            f"data.folder.multi_label: '{masks}' has no folder for each class, such as {masks.name}/CLASS/a.png. Other "
            "names: data.folder.masks."
        )
    return LabelSpace.of_class_masks(names, layout.ignore_value)


@dataclass(frozen=True)
class NamedFiles:
    """A folder with images and one with masks, whose names tell what belongs together.

    It may be the same folder where affixes tell images and masks apart. With sparse masks an image may lack one.
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
        images, masks = self.found_images(), self._found_masks()
        pairs = [
            Pair(printable(stem_of(path, self.images)), path, masks.of[core])
            for core, path in images.of.items()
            if core in masks.of
        ]
        problems = [*images.problems, *self._unnamed(images, masks), *masks.problems]
        if images.unlisted or masks.unlisted:
            return pairs, problems
        if not images.of and not images.strangers:
            line = f"{self.images}: no images. Known: {', '.join(sorted(self.suffixes))}. {self.left_out() or ''}"
            return [], [Problem("empty split", line.strip())]
        if not pairs and (reason := why_none(images, masks, self.affixes, sparse=self.sparse)):
            return [], [Problem("missing mask", reason)]
        return pairs, [*problems, *self._unpaired(images.of, masks.of)]

    def left_out(self) -> str | None:
        """A line about files in the images' folder that are no images, if there are any."""
        others: list[Path] = []
        files_below(self.images, self.suffixes, others=others)
        return left_out_line(self.images, others)

    def likely_affixes(self) -> Affixes:
        """What most names have around the part that images and masks share; nothing where some are simply equal."""
        images, masks = self.found_images(), self._found_masks()
        return NO_AFFIXES if images.of.keys() & masks.of.keys() else likely_affixes(images.of, masks.of)

    def have_class_folders(self) -> bool:
        """Whether the masks lie in a folder for each class."""
        images, masks = self.found_images().of, self._found_masks().of
        return not images.keys() & masks.keys() and are_of_classes(images, masks)

    def listed(self, lines: Iterable[ListedLine]) -> tuple[list[Pair | Problem], list[Problem]]:
        """A pair or a problem for each line of a split list, and warnings; the list finds out which files lack."""
        images, masks = self.found_images(), self._found_masks()
        if images.unlisted or masks.unlisted:
            return [*images.problems, *masks.problems], []
        image_names, mask_names = images.by_name(), masks.by_name()
        pairs: dict[Path, Pair] = {}
        problems, warnings = [], []
        for line in lines:
            image, mask = self._files_of(line.text, image_names, mask_names)
            if image is None and (line.posix.startswith("/") or line.posix[1:3] == ":/"):
                text = f"'{line.text}' leads out of the data set; write what comes after {self.images} in the path"
                problems.append(Problem("refused line", f"{line.place}: {text}"))
                continue
            image = image or self.images / line.posix
            if image in pairs:
                warnings.append(listed_twice(*line))
                continue
            stem = stem_of(image, self.images)
            core = self.affixes.of_image(composed(stem)) or composed(stem)
            mask = mask or masks.of.get(core, self.masks / f"{self.affixes.mask_stem(core)}.png")
            pairs[image] = Pair(printable(stem), image, mask, line.place)
        return [*pairs.values(), *problems], warnings

    def found_images(self) -> Files:
        """The images, without what is a mask where both lie in one folder."""
        images = read_files(self.images, self.suffixes, self.affixes.of_image)
        if self.images == self.masks:
            own = {core: path for core, path in images.of.items() if self._mask_core(path) is None}
            images = replace(images, of=own, strangers=[])
        return images

    def _found_masks(self) -> Files:
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
        for left, right in split_in_two(text):
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
            mask = f"{folder / self.affixes.mask_stem(core)}.png"
            like = alike.get(_bare(core))
            if like is None:
                problems.append(missing_mask(images[core], mask))
            else:
                found = folder / orphans.pop(like, masks[like]).relative_to(self.masks)
                line = f"no mask {mask}, but {found} has its name; give both the same sub-folder and spelling."
                problems.append(Problem("missing mask", f"{images[core]}: {line}"))
        return [*problems, *map(orphan_mask, orphans.values())]


@dataclass(frozen=True)
class _ClassFiles:
    """As `NamedFiles`, with a folder of masks for each of `classes` in the one of the masks."""

    files: NamedFiles
    classes: tuple[str, ...]

    def pairs(self) -> tuple[list[Pair], list[Problem]]:
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

    def listed(self, lines: Sequence[ListedLine]) -> tuple[list[Pair | Problem], list[Problem]]:
        found = [files.listed(lines) for files in self._of_classes()]
        rows = zip(*([item for item in items if isinstance(item, Pair)] for items, _ in found), strict=True)
        pairs = [replace(row[0], mask=self.files.masks, class_masks=tuple(map(self._class_mask, row))) for row in rows]
        problems = dict.fromkeys(item for items, _ in found for item in items if isinstance(item, Problem))
        return [*pairs, *problems], found[0][1]

    def _class_mask(self, pair: Pair) -> Path | None:
        return None if self.files.sparse and not pair.mask.exists() else pair.mask

    def _of_classes(self) -> list[NamedFiles]:
        folders = _class_folders(self.files.masks)
        return [replace(self.files, masks=folders.get(name, self.files.masks / name)) for name in self.classes]


def _with_advice(problem: Problem) -> Problem:
    if problem.kind != "missing mask":
        return problem
    return Problem(problem.kind, f"{problem.line} Where no file means no such class: data.folder.sparse_masks=true")


def _bare(core: str) -> str:
    """A name without its folder and its case."""
    return core.rpartition("/")[2].casefold()
