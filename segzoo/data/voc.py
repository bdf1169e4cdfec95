"""Pascal VOC 2012 in the layout of its devkit, with SBD's masks as the split `trainaug`."""

from pathlib import Path

from segzoo.config.schema import DataConfig
from segzoo.data.dataset import dataset_root, register_dataset, unknown_split
from segzoo.data.labels import LabelSpace, voc_palette
from segzoo.data.pairs import FileDataset, Pair, raise_all, refuse_missing_files
from segzoo.data.split_list import ListedLine, read_split_list
from segzoo.errors import ConfigError

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
LABELS = LabelSpace(NAMES, voc_palette(len(NAMES)))

_LISTS = Path("ImageSets", "Segmentation")


@register_dataset("voc")
def build_voc(config: DataConfig, split: str) -> FileDataset:
    """Pairs of `JPEGImages` and `SegmentationClass` that `ImageSets/Segmentation/<split>.txt` lists.

    Args:
        config: `root` is the VOCdevkit folder or the VOC2012 inside it.
        split: name of a list; `trainaug` takes its masks from `SegmentationClassAug`.

    Raises:
        ConfigError: the folder, its layout or the split is not there.
        DataError: a list names files that are missing.
    """
    root = _voc_folder(dataset_root(config))
    lists = {path.stem: path for path in (root / _LISTS).glob("*.txt")}
    if split not in lists:
        raise unknown_split(split, list(lists), f"{root / _LISTS}")
    masks = root / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
    lines = read_split_list(lists[split])
    raise_all([f"{line.place}: '{line.text}' is no plain image id" for line in lines if not _is_plain(line.text)])
    pairs = [_pair(line, root / "JPEGImages", masks) for line in lines]
    refuse_missing_files(pairs)
    return FileDataset(pairs, LABELS, where=str(lists[split]))


def _voc_folder(root: Path) -> Path:
    for folder in (root / "VOC2012", root):
        if (folder / _LISTS).is_dir():
            return folder
    raise ConfigError(f"data.root: no {_LISTS} in '{root}'. Give the VOCdevkit folder or the VOC2012 inside it.")


def _is_plain(text: str) -> bool:
    return not any(mark in text for mark in "/\\:")


def _pair(line: ListedLine, images: Path, masks: Path) -> Pair:
    return Pair(line.text, images / f"{line.text}.jpg", masks / f"{line.text}.png", line.place)
