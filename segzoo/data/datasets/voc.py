"""Pascal VOC 2012 in the layout of its devkit, with SBD's masks as the split `trainaug`."""

import logging
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.classes import find_class_list
from segzoo.data.datasets.listing import Listing, Pair, Problem
from segzoo.data.datasets.spec import (
    FoundLayout,
    Recipe,
    Source,
    built_from,
    dataset_root,
    how_to_get,
    register_dataset,
    without_masks,
)
from segzoo.data.datasets.splits import ListedLine, list_of_split, read_split_list
from segzoo.data.reading.labels import IGNORED, LabelSpace, color_number, shown_color, voc_palette
from segzoo.data.reading.masks import is_colored_mask, read_mask, read_stored_mask, write_mask
from segzoo.data.reading.tree import files_named
from segzoo.errors import ConfigError, DataError, first_line
from segzoo.fetching.archive import folder_beside
from segzoo.files import write_atomically
from segzoo.progress import item_bar

logger = logging.getLogger(__name__)

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
_REAL_VOC = (1_464, 1_449)  # train and val of VOC 2012
_REAL_TRAINAUG = 10_582


def list_voc(config: DataConfig, split: str) -> Listing[Pair]:
    """Pairs of `JPEGImages` and `SegmentationClass` that `ImageSets/Segmentation/<split>.txt` lists.

    All masks of `trainaug` come from `SegmentationClassAug`, also those of images that VOC's own train has.

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
    masks = root / (AUGMENTED_MASKS if split == "trainaug" else MASKS)
    listed = list_of_split(lists, split, root / LISTS)
    return listed.listing((_pair(line, root / IMAGES, masks) for line in listed.lines), LABELS)


def _pair(line: ListedLine, images: Path, masks: Path) -> Pair | Problem:
    name, place = line
    if any(mark in name for mark in "/\\:"):
        return Problem("refused line", f"{place}: '{name}' is no plain image id")
    return Pair(name, images / f"{name}.jpg", masks / f"{name}.png", place)


def other_classes(root: Path) -> str | None:
    """Why a folder in VOC's layout holds other classes, whatever its folders are called; None: it may be VOC."""
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
    """The VOC2012 folder: `data.root`, or the one below it."""
    root = dataset_root(config)
    for folder in (root / "VOC2012", root):
        if (folder / LISTS).is_dir():
            return folder
    raise ConfigError(f"data.root: no {LISTS} in '{root}' or a VOC2012 below it. {how_to_get(config)}")


def voc_layout(folder: Path) -> Path | None:
    """The folder with VOC2012's sub-folders, whatever classes are in them: this one, or one up to two levels below."""
    places = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012")
    return next((root for root in places if (root / IMAGES).is_dir() and (root / LISTS).is_dir()), None)


def find_voc(folder: Path) -> FoundLayout | None:
    """Tell VOC2012 by its folders, and by the classes in it."""
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


def write_trainaug(sbd: Path, voc: Path) -> int:
    """Write the masks and the list of `trainaug`; how many images it has.

    Images of VOC's own train split keep VOC's mask, whose objects have a border of ignored pixels (255). All others
    get SBD's mask, which has none. The images are VOC's: its JPEGImages hold all that SBD has masks for.

    Args:
        sbd: SBD's folder with `cls`, `train.txt` and `val.txt`.
        voc: the VOC2012 folder.

    Raises:
        DataError: a file is missing or damaged, or the real VOC does not give 10,582 images.

    Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011. The split is that of DeepLab
    (Chen et al., arXiv:1606.00915, section 4.1).
    """
    voc_train, voc_val = (_ids(voc / LISTS / f"{split}.txt") for split in ("train", "val"))
    sbd_ids = [name for split in ("train", "val") for name in _ids(sbd / f"{split}.txt")]
    ids = trainaug_ids(voc_train, voc_val, sbd_ids)
    _write_masks(ids, set(voc_train), sbd, voc)
    # Last: who finds the list finds the masks.
    write_atomically(voc / TRAINAUG_LIST, "".join(f"{name}\n" for name in ids).encode())
    logger.info("%s and %s are written; %s is not needed any more", voc / AUGMENTED_MASKS, voc / TRAINAUG_LIST, sbd)
    return len(ids)


def trainaug_ids(voc_train: Sequence[str], voc_val: Sequence[str], sbd: Sequence[str]) -> list[str]:
    """SBD's images, train and val alike, without those of VOC's val, and VOC's train; sorted.

    >>> trainaug_ids(voc_train=["b"], voc_val=["c"], sbd=["a", "b", "c"])
    ['a', 'b']
    """
    ids = sorted(set(sbd) - set(voc_val) | set(voc_train))
    if (len(voc_train), len(voc_val)) == _REAL_VOC and len(ids) != _REAL_TRAINAUG:
        raise DataError(
            f"trainaug: {len(ids):,} images instead of {_REAL_TRAINAUG:,}. SBD's lists are incomplete; fetch it again."
        )
    return ids


def read_sbd_mask(path: Path) -> npt.NDArray[np.uint8]:
    """The class numbers (H, W) of one of SBD's `cls/*.mat`: MATLAB 5 with a struct `GTcls` of `Segmentation`."""
    from scipy.io import loadmat  # half a second, for this one data set

    try:
        values = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # the reader lets nearly every type through on damaged files
        raise DataError(f"{path}: no mask of SBD (GTcls.Segmentation): {first_line(error)}") from error
    if values.ndim != 2 or values.dtype.kind not in "ui":
        raise DataError(f"{path}: GTcls.Segmentation is no table of class numbers")
    try:
        return LABELS.encode(values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _write_masks(ids: Sequence[str], of_voc: set[str], sbd: Path, voc: Path) -> None:
    """All masks or none; a folder that has them already is left as it is."""
    masks = voc / AUGMENTED_MASKS
    if masks.is_dir():
        missing = [name for name in ids if not (masks / f"{name}.png").is_file()]
        if missing:
            raise DataError(f"{masks}: {len(missing):,} of {len(ids):,} masks are missing. Move the folder away.")
        return
    with folder_beside(masks) as temporary, item_bar("converting masks", len(ids)) as move_to:
        for number, name in enumerate(ids, start=1):
            target = temporary / f"{name}.png"
            if name in of_voc:
                shutil.copyfile(voc / MASKS / target.name, target)
            else:
                write_mask(target, read_sbd_mask(sbd / "cls" / f"{name}.mat"), LABELS.flat_palette())
            move_to(number)
        temporary.replace(masks)


def _ids(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such list; is this folder complete?")
    names = [line.text for line in read_split_list(path)]
    if odd := [name for name in names if Path(name).name != name]:
        raise DataError(f"{path}: '{odd[0]}' is no plain image id")
    return names


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
        make=lambda root: write_trainaug(root / SBD.place, root / SOURCE.place),
        makes=f"{SOURCE.place}/{TRAINAUG_LIST}",
    ),
}
register_dataset("voc", reads=(), listing=list_voc, labels=LABELS, recipes=RECIPES, recognise=find_voc)(
    built_from(list_voc)
)
