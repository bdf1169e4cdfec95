"""Pascal VOC 2012 in the layout of its devkit, with SBD's masks as the split `trainaug`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.class_lists import find_class_list
from segzoo.data.dataset import dataset_root, how_to_get, register_dataset, unknown_split, without_masks
from segzoo.data.images import is_colored_mask, read_stored_mask
from segzoo.data.labels import LabelSpace, color_number, shown_color, voc_palette
from segzoo.data.listing import Listing, Problem, register_listing
from segzoo.data.pairs import FileDataset, Pair
from segzoo.data.pixels import PixelFormat
from segzoo.data.split_list import ListedLine, scan_split_list
from segzoo.data.tree import files_named
from segzoo.errors import ConfigError, DataError

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
LABELS = LabelSpace(NAMES, voc_palette(len(NAMES)))

IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
_LOOKED_AT = 12  # masks whose values tell whether this is VOC
AUGMENTED_MASKS = "SegmentationClassAug"
LISTS = Path("ImageSets", "Segmentation")
TRAINAUG_LIST = LISTS / "trainaug.txt"


@register_dataset("voc")
def build_voc(config: DataConfig, split: str) -> FileDataset:
    """Pairs of `JPEGImages` and `SegmentationClass` that `ImageSets/Segmentation/<split>.txt` lists.

    Args:
        config: `root` is the VOCdevkit folder or the VOC2012 inside it.
        split: name of a list: train, val, trainval. All masks of `trainaug` come from `SegmentationClassAug`, also
            those of images that VOC's own train has.

    Raises:
        ConfigError: the folder, its layout or the split is not there, or has no masks, as `test`.
        DataError: a list names files that are missing.
    """
    listing = list_voc(config, split)
    return FileDataset(listing.checked_pairs(), LABELS, listing.where, PixelFormat.of(config))


@register_listing("voc")
def list_voc(config: DataConfig, split: str) -> Listing:
    """The files of `build_voc`, with what is wrong with them.

    Raises:
        ConfigError: the folder, its layout or the split is not there.
    """
    root = voc_folder(config)
    if reason := other_classes(root):
        raise ConfigError(
            f"data.name=voc: {root} is not Pascal VOC: {reason}. To have a configuration with its own classes: segzoo "
            f"make-config {root}"
        )
    lists = {path.stem: path for path in files_named(root / LISTS, ".txt")}
    if split == "test":
        raise without_masks(split, root / IMAGES)
    if split == "trainaug" and not ("trainaug" in lists and (root / AUGMENTED_MASKS).is_dir()):
        raise ConfigError(
            f"data: no split 'trainaug' in {root}: it needs {TRAINAUG_LIST} and {AUGMENTED_MASKS}. To make both: "
            f"segzoo prepare-data sbd --root {root.parent.parent}. Or take data.train_split=train"
        )
    if split not in lists:
        raise unknown_split(split, list(lists), f"{root / LISTS}")
    masks = root / (AUGMENTED_MASKS if split == "trainaug" else MASKS)
    listed = scan_split_list(lists[split])
    problems = [
        Problem("refused line", f"{line.place}: '{line.text}' is no plain image id")
        for line in listed.lines
        if not _is_plain(line.text)
    ]
    pairs = [_pair(line, root / IMAGES, masks) for line in listed.lines if _is_plain(line.text)]
    return listed.listing(pairs, LABELS, str(lists[split]), problems)


def other_classes(root: Path) -> str | None:
    """Why a folder in VOC's layout holds other classes than VOC, whatever its folders are called; None: it may be VOC.

    Args:
        root: with the folders of images and masks.

    Raises:
        DataError: a file that names classes is no text.
    """
    listed = find_class_list(root)
    if listed.names and not _are_vocs(listed.names):
        return f"{listed.file} names other classes ({', '.join(listed.names[:3])}{', ...' if listed.names[3:] else ''})"
    masks = files_named(root / MASKS, ".png")
    looked_at = masks[:: max(1, len(masks) // _LOOKED_AT)]
    reasons = [reason for path in looked_at if (reason := _misfit(path))]
    return reasons[0] if 2 * len(reasons) > len(looked_at) else None


def _are_vocs(names: Sequence[str]) -> bool:
    """Whether names are VOC's, in VOC's order; some programs write the border's beside them."""
    plain = ["".join(filter(str.isalnum, name.lower())) for name in names]
    return [name for name in plain if name not in {"ignored", "void", "border"}] == list(NAMES)


def _misfit(path: Path) -> str | None:
    """What a mask holds that none of VOC's does."""
    try:
        if is_colored_mask(path):
            return f"{path} is a coloured picture, not one of class numbers"
        mask, palette = read_stored_mask(path)
    except DataError:  # comes up again when the data set is read
        return None
    for value in np.unique(mask).tolist():
        if value < min(len(palette), len(NAMES)) and palette[value] != color_number(LABELS.palette[value]):
            return f"{path} paints {value} {shown_color(palette[value])}, and VOC {NAMES[value]} another colour"
    return None


def voc_folder(config: DataConfig) -> Path:
    """The VOC2012 folder: `data.root`, or the one below it.

    Raises:
        ConfigError: neither holds VOC's lists.
    """
    root = dataset_root(config)
    for folder in (root / "VOC2012", root):
        if (folder / LISTS).is_dir():
            return folder
    raise ConfigError(f"data.root: no {LISTS} in '{root}' or a VOC2012 below it. {how_to_get(config)}")


def _is_plain(text: str) -> bool:
    return not any(mark in text for mark in "/\\:")


def _pair(line: ListedLine, images: Path, masks: Path) -> Pair:
    return Pair(line.text, images / f"{line.text}.jpg", masks / f"{line.text}.png", line.place)
