"""Why images have no masks, and what to do: a line for the whole folder, where one reason holds for all."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path

from segzoo.data.datasets.folder_files import (
    NO_AFFIXES,
    TRAIN_FOLDERS,
    VAL_FOLDERS,
    Affixes,
    Files,
    affixes_in_one_folder,
    are_of_classes,
    likely_affixes,
)
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.tree import files_below, files_named, is_of_kind, subfolders

_OUTLINES = frozenset({".json", ".txt", ".xml", ".csv"})
_LOOKED_INTO = 100  # folders


def why_none(images: Files, masks: Files, stated: Affixes, *, sparse: bool) -> str:
    """Why no image has a mask at all; empty where nothing tells.

    Args:
        images: of the split.
        masks: of the same.
        stated: what the configuration says of names.
        sparse: an image may lack a mask.
    """
    named, called = images.by_stem(), masks.by_stem()
    if not called or not named:
        return "" if sparse or called else _no_pictures(masks.folder)
    if are_of_classes(images.of, masks.of):
        return f"{masks.folder}: a folder of masks for each class. Say so: data.folder.multi_label=true"
    if stated != NO_AFFIXES and 2 * len(named.keys() & called.keys()) > len(called):
        return f"{masks.folder}: the masks have their images' names. Leave out {_keys(stated)}"
    affixes = likely_affixes(named, called)
    if affixes in (NO_AFFIXES, stated):
        return ""
    image, mask = _example(named, called, affixes)
    line = f"{masks.folder}: no mask has its image's name, but {mask.name} is that of {image.name}"
    return f"{line}. Say so: {_keys(affixes)}"


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
    affixes = affixes_in_one_folder(pictures)
    if affixes != NO_AFFIXES:
        return f"{folder}: {_apart({stem: paths[0] for stem, paths in pictures.items()}, affixes, folder, root)}"
    beside = [path for path in others if path.stem in pictures]
    if beside and 2 * len(beside) >= len(pictures):
        return f"{folder}: {sum(map(len, pictures.values()))} images, and beside them {_outlines(beside)}"
    return ""


def _apart(pictures: Mapping[str, Path], affixes: Affixes, folder: Path, root: Path) -> str:
    """How to say that images and masks lie in one folder."""
    masks = {stem: path for stem, path in pictures.items() if affixes.of_mask(stem) in _cores(pictures, affixes)}
    image, mask = _example(pictures, masks, affixes)
    parts = [part for part in folder.relative_to(root).parts if part.lower() not in {*TRAIN_FOLDERS, *VAL_FOLDERS}]
    place = "/".join(parts) or "."
    keys = f"data.folder.images={place} data.folder.masks={place} {_keys(affixes)}"
    return f"{len(masks)} masks lie beside their images, such as {mask.name} beside {image.name}. Say so: {keys}"


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


def _keys(affixes: Affixes) -> str:
    return " ".join(f"data.folder.{key}={value}" for key, value in affixes.stated().items())


def _cores(images: Mapping[str, Path], affixes: Affixes) -> dict[str, Path]:
    """Images by what they share with their masks."""
    found = ((affixes.of_image(stem), path) for stem, path in images.items())
    return {core: path for core, path in found if core is not None}


def _example(images: Mapping[str, Path], masks: Mapping[str, Path], affixes: Affixes) -> tuple[Path, Path]:
    """An image and its mask."""
    cores = _cores(images, affixes)
    found = ((affixes.of_mask(stem), path) for stem, path in masks.items())
    return next((cores[core], path) for core, path in found if core is not None and core in cores)
