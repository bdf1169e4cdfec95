"""ADE20K in the layout of its scene parsing challenge, 150 classes.

Source: Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017, and the challenge's `objectInfo150`: the first
name of each class.
"""

from pathlib import Path

from segzoo.config.data import Ade20kConfig
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
)
from segzoo.data.reading.labels import IGNORED, LabelSpace, voc_palette
from segzoo.data.reading.tree import files_named
from segzoo.errors import ConfigError

OTHER = "other"
"""Index 0, what none of the classes is: it is no class, but networks of DeepLab's authors score it too."""

NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair",
    "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field",
    "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion",
    "base", "box", "column", "signboard", "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace",
    "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway",
    "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench",
    "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine",
    "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth",
    "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman",
    "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything",
    "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball",
    "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen",
    "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen",
    "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip
"""Indices 1 to 150 of the masks."""

LABELS = LabelSpace(
    NAMES,
    voc_palette(len(NAMES) + 1)[1:],
    raw_ids=((0, IGNORED), *((number, number - 1) for number in range(1, len(NAMES) + 1))),
)
SCORED = LabelSpace(
    (OTHER, *NAMES),
    voc_palette(len(NAMES) + 1),
    raw_ids=((0, IGNORED), *((number, number) for number in range(1, len(NAMES) + 1))),
)
"""What a network scores that was trained on the masks' own numbers, and was not told of the first."""

IMAGES = "images"
MASKS = "annotations"
FOLDER = "ADEChallengeData2016"
_SPLITS = {"train": "training", "val": "validation"}


def list_ade20k(config: DataConfig, split: str, options: Ade20kConfig) -> Listing[Pair]:
    """Pairs of `images/training/*.jpg` and `annotations/training/*.png`; `validation` is the split `val`.

    Raises:
        ConfigError: the folder or the split is not there.
    """
    root = dataset_root(config)
    root = next((folder for folder in (root, root / FOLDER) if _is_ade20k(folder)), root)
    if not _is_ade20k(root):
        raise ConfigError(f"data.root: no {IMAGES}/training and {MASKS}/training in '{root}'. {how_to_get(config)}")
    folder = _SPLITS.get(split, split)
    if not (root / IMAGES / folder).is_dir() or folder not in _SPLITS.values():
        found = [name for name, place in _SPLITS.items() if (root / IMAGES / place).is_dir()]
        raise unknown_split(split, found, str(root / IMAGES))
    images = {path.stem: path for path in files_named(root / IMAGES / folder, ".jpg")}
    masks = {path.stem: path for path in files_named(root / MASKS / folder, ".png")}
    problems = [
        missing_mask(image, f"{MASKS}/{folder}/{name}.png") for name, image in images.items() if name not in masks
    ]
    problems += [orphan_mask(mask) for name, mask in masks.items() if name not in images]
    pairs = tuple(Pair(name, image, masks[name]) for name, image in images.items() if name in masks)
    return Listing(pairs, tuple(problems), str(root / IMAGES / folder), labels_of(config, options))


def labels_of(config: DataConfig, options: Ade20kConfig) -> LabelSpace:
    """The classes that are scored."""
    return SCORED if options.other else LABELS


def find_ade20k(folder: Path) -> FoundLayout | None:
    """Tell the challenge's folder by those of its images and masks."""
    roots = (root for root in (folder, folder / FOLDER) if _is_ade20k(root))
    return next((FoundLayout(root, f"{IMAGES}/training with {MASKS}/training: ADE20K") for root in roots), None)


def _is_ade20k(folder: Path) -> bool:
    return (folder / IMAGES / "training").is_dir() and (folder / MASKS / "training").is_dir()


RECIPE = Recipe(
    # No size or checksum of it was known here, and it could not be fetched: what arrives is counted only.
    (
        Source(
            filename=f"{FOLDER}.zip",
            folder=FOLDER,
            place=FOLDER,
            homepage="http://sceneparsing.csail.mit.edu/",
            urls=(f"http://data.csail.mit.edu/places/ADEchallenge/{FOLDER}.zip",),
        ),
    ),
    FOLDER,
    {"train": 20_210, "val": 2_000},
    "configs/deeplab_xception_ade20k.yaml",
)
register_dataset(
    "ade20k",
    options=Ade20kConfig,
    listing=list_ade20k,
    labels=labels_of,
    recipes={"ade20k": RECIPE},
    recognise=find_ade20k,
)(built_from(list_ade20k))
