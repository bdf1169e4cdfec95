"""How a folder of images and masks is laid out: what a person says of it, and what the folder shows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from segzoo.config.data import DataConfig
from segzoo.config.load import apply_overrides, config_from_tree, for_segmentation
from segzoo.data.datasets import voc
from segzoo.data.datasets.folder import NamedFiles
from segzoo.data.datasets.folder_names import NO_AFFIXES, TRAIN_FOLDERS, VAL_FOLDERS, lying_together
from segzoo.data.datasets.spec import DATASETS
from segzoo.data.reading.arrays import ARRAY_SUFFIXES
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.tree import files_named, subfolders
from segzoo.errors import ConfigError, did_you_mean

_FOUND = frozenset({"data.name", "data.root"})
_MEANINGS = (
    "data.classes",
    "data.folder.mask_values",
    "data.folder.colors",
    "data.folder.mask_offset",
    "data.folder.ignore_value",
)
_KINDS_OF_MASKS = (*(f"data.folder.{key}" for key in asdict(NO_AFFIXES)), "data.folder.multi_label")
_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "inputs", "input", "photos", "rgb", "img_dir", "image_dir")
_MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "segmentationclasspng", "segmentationclass",
    "segmentation", "segmentations", "gt", "groundtruth", "ground_truth", "targets", "target", "ann_dir", "mask_dir",
)  # fmt: skip
_IN_WORDS = {
    "image_prefix": "images begin with",
    "image_suffix": "images end in",
    "mask_prefix": "masks begin with",
    "mask_suffix": "masks end in",
}

Found = TypeVar("Found")


@dataclass(frozen=True)
class Stated:
    """Keys of the `data` section with the values that somebody gave them.

    Args:
        overrides: as on the command line, `data.key=value` each.

    Raises:
        ConfigError: a key of another section, or one that the folder itself decides.
    """

    overrides: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        tree = apply_overrides({}, self.overrides)
        keys = [override.partition("=")[0] for override in self.overrides]
        problems = [_refusal(key) for key in keys if not key.startswith("data.") or key in _FOUND]
        if problems:
            raise ConfigError(problems)
        object.__setattr__(self, "values", {key: _value(tree, key) for key in keys})

    @property
    def meanings(self) -> bool:
        """Whether they say what the values in the masks mean."""
        return not self.values.keys().isdisjoint(_MEANINGS)

    def config(self, tree: Mapping[str, Any]) -> DataConfig:
        """A `data` section with these values in place of its own.

        Raises:
            ConfigError: the schema refuses it.
        """
        whole = apply_overrides({"data": tree, "trainer": {"max_steps": 1}}, self.overrides)
        return for_segmentation(config_from_tree(whole)).data


def _value(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def _refusal(key: str) -> str:
    if key in _FOUND:
        return f"{key}: the folder decides; name another folder"
    advice = did_you_mean(f"data.{key}", [f"data.{name}" for name in DataConfig.model_fields])
    return f"{key}: only what says how the data are read, data.key=value, counts here; the rest is written. {advice}"


@dataclass(frozen=True)
class Layout:
    """The keys of a `data` section that say where the parts of a data set are, and how that was told, in words."""

    reason: str
    root: Path
    name: str = "folder"
    train_split: str = "train"
    val_split: str = "val"
    folder: Mapping[str, Any] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """As a `data` section."""
        return {
            "name": self.name,
            "root": str(self.root),
            "train_split": self.train_split,
            "val_split": self.val_split,
            "folder": self.folder,
        }


def find_layout(folder: Path, stated: Stated) -> tuple[DataConfig, str]:
    """Recognise a data set by the names of its folders and lists.

    Args:
        folder: where to look; Pascal VOC also one or two levels below.
        stated: what somebody said of it.

    Returns:
        A `data` section for it, with what is stated; how it was told, in words.

    Raises:
        ConfigError: an empty folder, no layout that is known, or what is stated does not fit it.
    """
    if not any(folder.iterdir()):
        raise ConfigError(f"{folder}: an empty folder. Put images/ and masks/ into it.")
    names = _Names.of(stated)
    layout = (
        _published(folder) or _like_voc(folder, names) or _split_folders(folder, names) or _one_folder(folder, names)
    )
    if layout is None:
        raise ConfigError(lying_together(folder) or _advice(folder))
    config = stated.config(layout.tree())
    if layout.name == "folder" and stated.values.keys().isdisjoint(_KINDS_OF_MASKS):
        layout = _with_kind_of_masks(layout, config)
    return stated.config(layout.tree()), layout.reason


class _Names(NamedTuple):
    """What folders may be called."""

    images: tuple[str, ...] = _IMAGES
    masks: tuple[str, ...] = _MASKS
    train: tuple[str, ...] = TRAIN_FOLDERS
    val: tuple[str, ...] = VAL_FOLDERS

    @classmethod
    def of(cls, stated: Stated) -> "_Names":
        """The usual names, or the one that somebody gave."""
        keys = ("data.folder.images", "data.folder.masks", "data.train_split", "data.val_split")
        usual = dict(zip(keys, cls(), strict=True))
        return cls(*((str(stated.values[key]),) if key in stated.values else usual[key] for key in keys))


def _published(folder: Path) -> Layout | None:
    """A data set that knows itself."""
    for name in DATASETS:
        recognise = DATASETS[name].recognise
        found = recognise(folder) if recognise else None
        if found is not None:
            return Layout(found.reason, found.root, name, found.train_split)
    return None


def _like_voc(folder: Path, names: _Names) -> Layout | None:
    """Other classes in VOC's layout, with its lists where they make a training and a validation split."""
    root = voc.voc_layout(folder)
    layout = None if root is None else _one_folder(root, names)
    if root is None or layout is None:
        return None
    stems = {path.stem.lower(): path.stem for path in files_named(root / voc.LISTS, ".txt")}
    train, val = (_first(stems, usual) for usual in (names.train, names.val))
    reason = f"{layout.reason}, as in Pascal VOC, but {voc.other_classes(root) or voc.other_numbers(root)}"
    if train is None or val is None:
        return replace(layout, reason=reason)
    listed = {**layout.folder, "lists": voc.LISTS.as_posix()}
    return replace(layout, reason=reason, train_split=train, val_split=val, folder=listed)


def _split_folders(folder: Path, names: _Names) -> Layout | None:
    """`train/images` and `train/masks` beside `val`, or `images/train` and `masks/train` beside `images/val`."""
    train, val = _named(folder, names.train), _named(folder, names.val)
    if train and val and (images := _named(train, names.images)) and (masks := _named(train, names.masks)):
        reason = f"{train.name}/{images.name} with {train.name}/{masks.name}, and {val.name}"
        return _of_names(folder, reason, images, masks, train.name, val.name)
    images, masks = _named(folder, names.images), _named(folder, names.masks)
    if images is None or masks is None or any((folder / f"{name}.txt").is_file() for name in ("train", "val")):
        return None
    if (train := _named(images, names.train)) and (val := _named(images, names.val)):
        reason = f"{images.name}/{train.name} with {masks.name}/{train.name}, and {val.name}"
        return _of_names(folder, reason, images, masks, train.name, val.name)
    return None


def _one_folder(folder: Path, names: _Names) -> Layout | None:
    images, masks = _named(folder, names.images), _named(folder, names.masks)
    if images is None or masks is None:
        return None
    return _of_names(folder, f"{images.name} with {masks.name}", images, masks)


def _of_names(root: Path, reason: str, images: Path, masks: Path, train: str = "train", val: str = "val") -> Layout:
    folder = {"images": images.name, "masks": masks.name}
    return Layout(reason, root, train_split=train, val_split=val, folder=folder)


def _with_kind_of_masks(layout: Layout, config: DataConfig) -> Layout:
    """The layout with what the names of its masks have after those of the images, or the classes' folders, if any."""
    root, train, images, masks = layout.root, config.train_split, config.folder.images, config.folder.masks
    places = [(root / train / images, root / train / masks), (root / images / train, root / masks / train)]
    places += [(root / images, root / masks)]
    files = NamedFiles(*next(place for place in places if place[0].is_dir()), IMAGE_SUFFIXES | ARRAY_SUFFIXES)
    if files.have_class_folders():
        reason = f"{layout.reason}; a folder of masks for each class"
        return replace(layout, reason=reason, folder={**layout.folder, "multi_label": True})
    affixes = files.likely_affixes().stated()
    if not affixes:
        return layout
    words = ", ".join(f"{_IN_WORDS[key]} {value}" for key, value in affixes.items())
    return replace(layout, reason=f"{layout.reason}; {words}", folder={**layout.folder, **affixes})


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The sub-folder with the first of some names, whatever its case."""
    return _first({path.name.lower(): path for path in subfolders(folder)}, names)


def _first(present: Mapping[str, Found], names: tuple[str, ...]) -> Found | None:
    """What has the first of some names."""
    return next((present[name.lower()] for name in names if name.lower() in present), None)


def _advice(folder: Path) -> str:
    inside = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
    loose = any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
    move = " The images lie in the folder itself: move them into images/." if loose else ""
    known = ", ".join(name for name in DATASETS if DATASETS[name].recognise)
    return (
        f"{folder}: no images/ and masks/ (or img, labels, annotations, ...), no train/ and val/ with or in these, and "
        f"none of the data sets {known}; only {inside}.{move}"
    )
