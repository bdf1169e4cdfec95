"""Pascal VOC 2012 in the layout of its devkit, with SBD's masks as the split `trainaug`."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.class_lists import find_class_list
from segzoo.data.dataset import (
    FoundLayout,
    built_from,
    dataset_root,
    how_to_get,
    register_dataset,
    unknown_split,
    without_masks,
)
from segzoo.data.images import is_colored_mask, read_mask, read_stored_mask
from segzoo.data.labels import IGNORED, LabelSpace, color_number, shown_color, voc_palette
from segzoo.data.listing import Listing, Problem
from segzoo.data.pairs import Pair
from segzoo.data.sources import Recipe, Source
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
_LOOKED_AT = 12  # masks whose colours tell whether this is VOC
_READ = 50  # masks whose numbers do
_ID = re.compile(r"20\d\d_\d{6}")
AUGMENTED_MASKS = "SegmentationClassAug"
LISTS = Path("ImageSets", "Segmentation")
TRAINAUG_LIST = LISTS / "trainaug.txt"


SOURCE = Source(
    filename="VOCtrainval_11-May-2012.tar",
    folder="VOCdevkit/VOC2012",
    place="VOCdevkit/VOC2012",
    homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    urls=(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",  # torchvision's, as the checksum
        # The copy of the book "Dive into Deep Learning"; the university's host is often unreachable.
        "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
    ),
    size=1_999_639_040,
    md5="6cd6e144f989b92b3379bac3b3de84fd",
)


def list_voc(config: DataConfig, split: str) -> Listing[Pair]:
    """Pairs of `JPEGImages` and `SegmentationClass` that `ImageSets/Segmentation/<split>.txt` lists.

    Args:
        config: `root` is the VOCdevkit folder or the VOC2012 inside it.
        split: name of a list: train, val, trainval. All masks of `trainaug` come from `SegmentationClassAug`, also
            those of images that VOC's own train has.

    Raises:
        ConfigError: the folder, its layout or the split is not there, or has no masks, as `test`.
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


def voc_layout(folder: Path) -> Path | None:
    """What has VOC2012's sub-folders, whatever classes are in them: a folder, or one up to two levels below."""
    places = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012")
    return next((root for root in places if (root / IMAGES).is_dir() and (root / LISTS).is_dir()), None)


def find_voc(folder: Path) -> FoundLayout | None:
    """VOC2012 with its own classes."""
    root = voc_layout(folder)
    if root is None or other_classes(root) or other_numbers(root):
        return None
    has_sbd = (root / TRAINAUG_LIST).is_file() and (root / AUGMENTED_MASKS).is_dir()
    split = "trainaug" if has_sbd else "train"
    return FoundLayout(root, f"{IMAGES} with {LISTS.as_posix()}: Pascal VOC", split)


def other_numbers(root: Path) -> str | None:
    """Why the numbers in the masks are not VOC's: larger ones, or few, without its images."""
    looked_at = []
    for path in files_named(root / MASKS, ".png")[:_READ]:
        with suppress(DataError):  # comes up again when every mask is read
            looked_at.append(set(np.unique(read_mask(path)).tolist()) - {IGNORED})
    beyond = [max(numbers) for numbers in looked_at if max(numbers, default=0) >= len(NAMES)]
    if 2 * len(beyond) > len(looked_at):
        return f"the masks hold up to {max(beyond)}, and VOC has {len(NAMES)} classes"
    numbers = set().union(*looked_at)
    if numbers != set(range(len(numbers))) or len(numbers) >= len(NAMES):
        return None
    if any(_ID.fullmatch(path.stem) for path in (root / IMAGES).iterdir()):
        return None
    return f"no image has a name of VOC's, such as 2007_000032, and the masks hold 0 to {len(numbers) - 1} only"


def _is_plain(text: str) -> bool:
    return not any(mark in text for mark in "/\\:")


def _pair(line: ListedLine, images: Path, masks: Path) -> Pair:
    return Pair(line.text, images / f"{line.text}.jpg", masks / f"{line.text}.png", line.place)


def _write_trainaug(root: Path) -> None:
    from segzoo.data.sbd import write_trainaug  # which knows this data set

    write_trainaug(root / SBD.place, root / SOURCE.place)


SBD = Source(
    filename="benchmark.tgz",
    folder="benchmark_RELEASE/dataset",
    place="SBD",
    homepage="http://home.bharathh.info/pubs/codes/SBD/download.html",
    # As in torchvision, and the checksum, too.
    urls=("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",),
    size=1_419_539_633,
    md5="82b4d87ceb2ed10f6038a1cba92111cb",
)
_CONFIG = "configs/deeplab_xception.yaml"
RECIPES = {
    "voc": Recipe((SOURCE,), "VOCdevkit", {"train": 1_464, "val": 1_449}, f"{_CONFIG} data.train_split=train"),
    "sbd": Recipe(
        (SOURCE, SBD),
        "VOCdevkit",
        {"trainaug": 10_582, "val": 1_449},
        _CONFIG,
        make=_write_trainaug,
        makes=f"{SOURCE.place}/{TRAINAUG_LIST}",
    ),
}
register_dataset("voc", reads=(), listing=list_voc, labels=LABELS, recipes=RECIPES, recognise=find_voc)(
    built_from(list_voc)
)
