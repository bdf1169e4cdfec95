"""Any folder of images and masks that share their names."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.dataset import dataset_root, register_dataset, unknown_split
from segzoo.data.images import IMAGE_SUFFIXES, image_size, mask_size, read_mask
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import FileDataset, Pair, raise_all, size_mismatch
from segzoo.errors import ConfigError, DataError

_IGNORED = 255
_VAL_SHARE = 5  # one image in five


@register_dataset("folder")
def build_folder(config: DataConfig, split: str) -> FileDataset:
    """Pairs of `images/` and `masks/` with the same stems, in the root or in one folder per split.

    Without split folders one image in five, chosen by its name alone, is `val`, the others are `train`.
    Classes are those of `config.classes`, else of `classes.txt` (one name a line), else class_0, class_1, ...
    as many as the training masks hold.

    Args:
        config: `root` holds `images` and `masks`, or `train/images`, `train/masks`, `val/images` and so on.
        split: name of a split folder, or "train", "val".

    Raises:
        ConfigError: the folder, its layout or the split is not there.
        DataError: files do not fit together; all problems in one go.
    """
    root = dataset_root(config)
    pairs = _split_pairs(root, split)
    names = config.classes or _listed_names(root / "classes.txt")
    if names is None:
        training_pairs = pairs if split == config.train_split else _split_pairs(root, config.train_split)
        names = tuple(f"class_{index}" for index in range(_count_classes(training_pairs, root)))
    else:
        _refuse_binary(pairs, root)
    return FileDataset(pairs, LabelSpace.from_names(names), where=f"{root}, split {split}")


def _split_pairs(root: Path, split: str) -> list[Pair]:
    """The checked pairs of one split."""
    folders = {path.parent.name: path.parent for path in root.glob("*/images") if path.is_dir()}
    if split in folders:
        return _checked_pairs(folders[split])
    if folders:
        raise unknown_split(split, list(folders), str(root))
    if not (root / "images").is_dir():
        raise ConfigError(f"data.root: '{root}' has neither images/ and masks/ nor train/images and train/masks.")
    if split not in {"train", "val"}:
        raise unknown_split(split, ["train", "val"], str(root))
    pairs = _checked_pairs(root)
    held_out = _held_out(pairs)
    chosen = [pair for pair in pairs if (pair.id in held_out) == (split == "val")]
    if not chosen:
        raise DataError(f"{root}: one image makes no train and val split. Add images.")
    return chosen


def _held_out(pairs: Sequence[Pair]) -> set[str]:
    """The ids with the smallest hashes: the same on every machine, nearly the same when images are added."""
    ranked = sorted((pair.id for pair in pairs), key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(ranked[: -(-len(ranked) // _VAL_SHARE)])


def _checked_pairs(folder: Path) -> list[Pair]:
    """Images and masks of `folder` by stem; every fault that names and headers show is raised at once."""
    if not (folder / "masks").is_dir():
        raise DataError(f"{folder}: images/ has no masks/ beside it. Put the masks there, under the images' names.")
    images, image_problems = _by_stem(folder / "images")
    if not images:
        raise DataError(f"{folder / 'images'}: no images. Known: {', '.join(sorted(IMAGE_SUFFIXES))}.")
    masks, mask_problems = _by_stem(folder / "masks")
    missing = [
        f"{images[stem]}: no mask masks/{stem}.png. Add it or remove the image." for stem in images if stem not in masks
    ]
    orphans = [
        f"{masks[stem]}: no image of this name. Add it or remove the mask." for stem in masks if stem not in images
    ]
    pairs = [Pair(stem, image, masks[stem]) for stem, image in images.items() if stem in masks]
    raise_all([*image_problems, *mask_problems, *missing, *orphans, *_header_problems(pairs)])
    return pairs


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Files by path without suffix, and a line for every name that two files share."""
    named: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            named[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    problems = [
        f"{paths[0]}: {', '.join(path.name for path in paths[1:])} has the same name but for the suffix. Rename one."
        for paths in named.values()
        if len(paths) > 1
    ]
    return {stem: paths[0] for stem, paths in named.items()}, problems


def _header_problems(pairs: Iterable[Pair]) -> list[str]:
    problems = []
    for pair in pairs:
        try:
            image, mask = image_size(pair.image), mask_size(pair.mask)
        except DataError as error:
            problems.extend(error.problems)
            continue
        if image != mask:
            problems.append(size_mismatch(pair, image, mask))
    return problems


def _listed_names(path: Path) -> tuple[str, ...] | None:
    """The lines of classes.txt, if there is such a file."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _refuse_binary(pairs: Iterable[Pair], root: Path) -> None:
    """255 is the ignored value, so that 0/255 pictures would pass for masks without an object.

    Reads masks until one shows a class above 0, most often a single one.
    """
    seen: set[int] = set()
    for pair in pairs:
        seen.update(np.unique(read_mask(pair.mask)).tolist())
        if not seen <= {0, _IGNORED}:
            return
    if _IGNORED in seen:
        raise _not_counting_up(seen, root)


def _count_classes(pairs: Iterable[Pair], root: Path) -> int:
    """One more than the largest value in the masks, the ignored one aside."""
    seen: set[int] = set()
    for pair in pairs:
        seen.update(np.unique(read_mask(pair.mask)).tolist())
    classes = seen - {_IGNORED}
    # Numbers with wide gaps are gray levels or another set's ids.
    if seen <= {0, _IGNORED} or max(classes) >= 4 * len(classes):
        raise _not_counting_up(seen, root)
    return max(classes) + 1


def _not_counting_up(values: set[int], root: Path) -> DataError:
    found = ", ".join(map(str, sorted(values)[:12]))
    return DataError(
        f"{root}: the masks hold only the values {found}, which are no class numbers 0, 1, 2, ... Write those into "
        "the masks (1 in place of 255 where there is one class), and 255 only for pixels to ignore."
    )
