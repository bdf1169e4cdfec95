"""Cityscapes as it is downloaded: 19 classes made from the label ids when a mask is read."""

from pathlib import Path
from typing import NamedTuple

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.listing import Listing, Pair, missing_mask, orphan_mask
from segzoo.data.datasets.spec import (
    FoundLayout,
    Recipe,
    Source,
    built_from,
    dataset_root,
    how_to_get,
    register_dataset,
    unknown_split,
    without_masks,
)
from segzoo.data.reading.coding import Color
from segzoo.data.reading.labels import IGNORED, LabelSpace
from segzoo.data.reading.tree import files_named, subfolders
from segzoo.errors import ConfigError

_VOID = IGNORED


class CityscapesLabel(NamedTuple):
    """One of the things that were annotated."""

    id: int  # value in `*_labelIds.png`
    train_id: int  # class index, or 255 where it is not evaluated; value in `*_labelTrainIds.png`
    name: str
    category: str  # the group that it belongs to
    color: Color  # in `*_color.png`


# Without "license plate", whose id -1 no file holds.
CITYSCAPES_LABELS = tuple(
    CityscapesLabel(*row)
    for row in (
        (0, _VOID, "unlabeled", "void", (0, 0, 0)),
        (1, _VOID, "ego vehicle", "void", (0, 0, 0)),
        (2, _VOID, "rectification border", "void", (0, 0, 0)),
        (3, _VOID, "out of roi", "void", (0, 0, 0)),
        (4, _VOID, "static", "void", (0, 0, 0)),
        (5, _VOID, "dynamic", "void", (111, 74, 0)),
        (6, _VOID, "ground", "void", (81, 0, 81)),
        (7, 0, "road", "flat", (128, 64, 128)),
        (8, 1, "sidewalk", "flat", (244, 35, 232)),
        (9, _VOID, "parking", "flat", (250, 170, 160)),
        (10, _VOID, "rail track", "flat", (230, 150, 140)),
        (11, 2, "building", "construction", (70, 70, 70)),
        (12, 3, "wall", "construction", (102, 102, 156)),
        (13, 4, "fence", "construction", (190, 153, 153)),
        (14, _VOID, "guard rail", "construction", (180, 165, 180)),
        (15, _VOID, "bridge", "construction", (150, 100, 100)),
        (16, _VOID, "tunnel", "construction", (150, 120, 90)),
        (17, 5, "pole", "object", (153, 153, 153)),
        (18, _VOID, "polegroup", "object", (153, 153, 153)),
        (19, 6, "traffic light", "object", (250, 170, 30)),
        (20, 7, "traffic sign", "object", (220, 220, 0)),
        (21, 8, "vegetation", "nature", (107, 142, 35)),
        (22, 9, "terrain", "nature", (152, 251, 152)),
        (23, 10, "sky", "sky", (70, 130, 180)),
        (24, 11, "person", "human", (220, 20, 60)),
        (25, 12, "rider", "human", (255, 0, 0)),
        (26, 13, "car", "vehicle", (0, 0, 142)),
        (27, 14, "truck", "vehicle", (0, 0, 70)),
        (28, 15, "bus", "vehicle", (0, 60, 100)),
        (29, _VOID, "caravan", "vehicle", (0, 0, 90)),
        (30, _VOID, "trailer", "vehicle", (0, 0, 110)),
        (31, 16, "train", "vehicle", (0, 80, 100)),
        (32, 17, "motorcycle", "vehicle", (0, 0, 230)),
        (33, 18, "bicycle", "vehicle", (119, 11, 32)),
    )
)
"""Source: Cordts et al., arXiv:1604.01685v2, table 1, and the benchmark's labels.py."""

_EVALUATED = tuple(label for label in CITYSCAPES_LABELS if label.train_id != _VOID)
LABELS = LabelSpace(
    names=tuple(label.name for label in _EVALUATED),
    palette=tuple(label.color for label in _EVALUATED),
    ignore_index=_VOID,
    raw_ids=tuple((label.id, label.train_id) for label in CITYSCAPES_LABELS),
)

IMAGES = "leftImg8bit"
MASKS = "gtFine"
IMAGE_END = "_leftImg8bit.png"

_IDS_END = "_gtFine_labelIds.png"
_TRAIN_IDS_END = "_gtFine_labelTrainIds.png"


def list_cityscapes(config: DataConfig, split: str) -> Listing[Pair]:
    """Pairs of `leftImg8bit/<split>/<city>/*_leftImg8bit.png` and `gtFine/<split>/<city>/*_gtFine_labelIds.png`.

    Masks made by createTrainIdLabelImgs (`*_gtFine_labelTrainIds.png`) are used where `gtFine` has no labelIds at all.
    A file under the wrong one of the two names is refused when it is read: each holds values that the other never has,
    for every scene has void pixels at its borders.

    Raises:
        ConfigError: a folder or the split is not there, or has no masks, as `test`.
    """
    root = dataset_root(config)
    missing = [name for name in (IMAGES, MASKS) if not (root / name).is_dir()]
    if missing:
        raise ConfigError(f"data.root: no {' and no '.join(missing)} in '{root}'. {how_to_get(config)}")
    if split == "test":
        raise without_masks(split, root / IMAGES / split)
    splits = [path.name for path in subfolders(root / IMAGES)]
    if split not in splits:
        raise unknown_split(split, splits, str(root / IMAGES))
    mask_end = _mask_end(root)
    images = by_name(root / IMAGES / split, IMAGE_END)
    masks = by_name(root / MASKS / split, mask_end)
    problems = [
        missing_mask(image, f"{MASKS}/{split}/{name}{mask_end}") for name, image in images.items() if name not in masks
    ]
    problems += [orphan_mask(mask) for name, mask in masks.items() if name not in images]
    pairs = [Pair(Path(name).name, image, masks[name]) for name, image in images.items() if name in masks]
    labels = LABELS if mask_end == _IDS_END else LABELS.of_indices()
    return Listing(tuple(pairs), tuple(problems), str(root / IMAGES / split), labels)


def _mask_end(root: Path) -> str:
    """Which of the two kinds of masks `gtFine` has; label ids where it has both."""
    ends = (_IDS_END, _TRAIN_IDS_END)
    cities = [city for split in subfolders(root / MASKS) for city in subfolders(split)]
    return next((end for end in ends if any(files_named(city, end) for city in cities)), _IDS_END)


def by_name(folder: Path, end: str) -> dict[str, Path]:
    """`<city>/<city>_<sequence>_<frame>` to its file, in order."""
    paths = [path for city in subfolders(folder) for path in files_named(city, end)]
    return {path.relative_to(folder).as_posix().removesuffix(end): path for path in paths}


def find_cityscapes(folder: Path) -> FoundLayout | None:
    """Tell Cityscapes by the folders of its images and masks."""
    if (folder / IMAGES).is_dir() and (folder / MASKS).is_dir():
        return FoundLayout(folder, f"{IMAGES} with {MASKS}: Cityscapes")
    return None


_HOMEPAGE = "https://www.cityscapes-dataset.com/downloads/"
RECIPE = Recipe(
    # A login and an agreement stand before these two, of 11 GB and 241 MB.
    (
        Source("leftImg8bit_trainvaltest.zip", IMAGES, f"cityscapes/{IMAGES}", _HOMEPAGE),
        Source("gtFine_trainvaltest.zip", MASKS, f"cityscapes/{MASKS}", _HOMEPAGE),
    ),
    "cityscapes",
    {"train": 2_975, "val": 500, "test": 1_525},
    "configs/deeplab_xception_cityscapes.yaml",
    images=f"{IMAGES}/{{split}}/*/*{IMAGE_END}",
    unlabelled=frozenset({"test"}),
)
register_dataset(
    "cityscapes",
    reads=(),
    listing=list_cityscapes,
    labels=LABELS,
    recipes={"cityscapes": RECIPE},
    recognise=find_cityscapes,
    scales=(0.75, 1.0, 1.25),  # the DeepLab authors' evaluation
)(built_from(list_cityscapes))
