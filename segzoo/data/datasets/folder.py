"""Any folder of images and masks that share their names."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from segzoo.config.schema import DataConfig, FolderConfig
from segzoo.data.datasets.folder_advice import lying_together
from segzoo.data.datasets.folder_files import TRAIN_FOLDERS, Affixes
from segzoo.data.datasets.folder_labels import infer_labels, mask_values, refuse_binary, stated_labels
from segzoo.data.datasets.folder_pairs import ClassFiles, NamedFiles, class_folders
from segzoo.data.datasets.listing import Listing, Problem, with_headers
from segzoo.data.datasets.pairs import FileDataset, Pair
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.datasets.splits import scan_split_list, smallest_hashes
from segzoo.data.reading.class_masks import class_mask_labels
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.reading.tree import composed, is_file, is_folder, subfolders
from segzoo.errors import ConfigError
from segzoo.progress import counted

_LISTED_SPLITS = ("train", "val", "test")


def list_folder(config: DataConfig, split: str, layout: FolderConfig) -> Listing[Pair]:
    """The files of `build_folder`, with what their names show to be wrong.

    Raises:
        ConfigError: the folder, its layout or the split is not there.
    """
    root = dataset_root(config)
    labels = stated_labels(config, root)
    where = f"{root}, split {split}"
    list_files = {name: root / layout.lists / f"{name}.txt" for name in {*_LISTED_SPLITS, split}}
    lists = {name: path for name, path in list_files.items() if is_file(path)}
    folders = split_folders(root, config, listed=bool(lists))
    flat = _named_files(root / layout.images, root / layout.masks, config)
    if layout.multi_label and labels is None:
        labels = _labels_of_folders(folders.get(config.train_split, flat).masks, layout)
    if split in folders:
        pairs, problems = _by_class(folders[split], labels).pairs()
        warnings = (*_other_classes(folders[split], labels, config), *_passed_over(folders[split]))
        return Listing(tuple(pairs), tuple(problems), where, labels, warnings)
    if folders:
        raise unknown_split(split, list(folders), str(root), _one_split(root, next(iter(folders.values()))))
    if not is_folder(root / layout.images):
        raise ConfigError(
            lying_together(root)
            or f"data.root: '{root}' has neither {layout.images}/ and {layout.masks}/ nor train/{layout.images} and "
            f"train/{layout.masks}. Other names: data.folder.images and data.folder.masks."
        )
    if split not in (lists or {"train", "val"}):
        instead = ", or take the list away: then a share of all images is held out (data.folder.val_fraction)."
        raise unknown_split(split, list(lists) or ["train", "val"], str(root), instead)
    files = _by_class(flat, labels)
    if lists:
        listed = scan_split_list(lists[split])
        found, faults, twice = files.listed(listed.lines)
        return listed.listing(found, labels, str(lists[split]), faults, twice)
    pairs, problems = files.pairs()
    held_out = held_out_ids([pair.id for pair in pairs], layout)
    chosen = tuple(pair for pair in pairs if (pair.id in held_out) == (split == "val"))
    if pairs and not chosen:
        problems.append(Problem("empty split", f"{root}: one image makes no train and val split. Add images."))
    return Listing(chosen, tuple(problems), where, labels, tuple(_passed_over(flat)) if split == "train" else ())


def _stated_classes(config: DataConfig, layout: FolderConfig) -> LabelSpace | None:
    """The classes as far as the configuration names them."""
    names = config.classes or layout.mask_values or layout.colors
    return LabelSpace.from_names(tuple(names)) if names else None


@register_dataset("folder", options=FolderConfig, reads=("classes",), listing=list_folder, labels=_stated_classes)
def build_folder(config: DataConfig, split: str, layout: FolderConfig) -> FileDataset:
    """Pairs of `images/` and `masks/` with the same stems, in the root or in one folder per split.

    A folder per split holds both (`train/images`, `train/masks`) or lies in both (`images/train`, `masks/train`).
    Without split folders, `train.txt` and `val.txt` in the root list the splits' stems, one a line. Without those, a
    share of the images (`folder.val_fraction`), chosen by their names alone, is `val`, the others are `train`.

    Masks hold class numbers, as gray values or palette indices, unless `folder` says what their values
    (`mask_values`, `mask_offset`) or their colours (`colors`) mean. Classes are those of `mask_values`, `colors`,
    `config.classes` or `classes.txt` (one name a line), else class_0, class_1, ... as many as the training masks hold.

    With `folder.multi_label` a pixel may have several classes: `masks` holds a folder for each class, and those hold a
    mask for each image.

    Args:
        config: `root` holds `images` and `masks`, or the folders of each split.
        split: name of a split folder or list, or "train", "val".
        layout: names of the sub-folders, what the masks hold, how images are split.

    Raises:
        ConfigError: the folder, its layout or the split is not there.
        DataError: files do not fit together; all problems in one go.
    """
    pixels = PixelFormat.of(config)
    listing = with_headers(list_folder(config, split, layout), pixels)
    pairs = listing.checked()
    labels = listing.labels
    if labels is None:
        training = listing if split == config.train_split else list_folder(config, config.train_split, layout)
        masks = training.checked()
        values = (mask_values(pair) for pair in counted(masks, len(masks), "reading masks"))
        labels = infer_labels(frozenset().union(*values), config)
    elif layout.mask_values is None and layout.colors is None and labels.coding.exclusive:
        refuse_binary(map(mask_values, pairs), str(config.root))
    return FileDataset(pairs, labels, listing.where, pixels)


def split_folders(root: Path, config: DataConfig, *, listed: bool) -> dict[str, NamedFiles]:
    """Each split that has folders of its own: `train/images` with `train/masks`, or `images/train` with `masks/train`.

    Args:
        root: of the data set.
        config: the run's `data` section.
        listed: whether lists say what belongs to a split; folders below `images` are only names then.
    """
    layout = config.folder
    outer = {path.name: path for path in subfolders(root) if is_folder(path / layout.images)}
    # Beside images of the root's own, folders without one to train on are no splits: copies, raw material.
    if _has_training(outer, config) or (outer and not is_folder(root / layout.images)):
        return {name: _named_files(path / layout.images, path / layout.masks, config) for name, path in outer.items()}
    inner = {path.name: path for path in subfolders(root / layout.images)}
    # Without a folder to train on, folders are days or places, whose pictures belong to both splits.
    if listed or not _has_training(inner, config):
        return {}
    return {name: _named_files(path, root / layout.masks / name, config) for name, path in inner.items()}


def _one_split(root: Path, only: NamedFiles) -> str:
    """How to hold out a share of the only split that has folders."""
    images, masks = only.images.relative_to(root), only.masks.relative_to(root)
    keys = f"data.folder.images={images.as_posix()} data.folder.masks={masks.as_posix()}"
    return f", or hold out a share of these images (data.folder.val_fraction): {keys}"


def _has_training(splits: Iterable[str], config: DataConfig) -> bool:
    return any(name == config.train_split or name.lower() in TRAIN_FOLDERS for name in splits)


def _named_files(images: Path, masks: Path, config: DataConfig) -> NamedFiles:
    suffixes, layout = PixelFormat.of(config).suffixes, config.folder
    return NamedFiles(images, masks, suffixes, affixes_of(layout), sparse=layout.sparse_masks)


def affixes_of(layout: FolderConfig) -> Affixes:
    """What the configuration says of names."""
    texts = (layout.image_prefix, layout.image_suffix, layout.mask_prefix, layout.mask_suffix)
    return Affixes(*map(composed, texts))


def _by_class(files: NamedFiles, labels: LabelSpace | None) -> NamedFiles | ClassFiles:
    """The files, with masks in a folder for each class where the classes ask for it."""
    return files if labels is None or labels.coding.exclusive else ClassFiles(files, labels.names)


def _passed_over(files: NamedFiles) -> Iterator[Problem]:
    """Files among the images that are none; beside lists, which name the images, nobody asks for others."""
    line = files.passed_over()
    if line is not None:
        yield Problem("files left out", line)


def _other_classes(files: NamedFiles, labels: LabelSpace | None, config: DataConfig) -> Iterator[Problem]:
    """Folders of masks that the classes, read off the training split's, leave out."""
    if labels is None or labels.coding.exclusive or config.classes:
        return
    for name in sorted(set(class_folders(files.masks)) - set(labels.names)):
        line = f"{files.masks / name}: no class of this name in split {config.train_split}, which decides; not read"
        yield Problem("unknown class", line)


def _labels_of_folders(masks: Path, layout: FolderConfig) -> LabelSpace:
    """A class for each folder of masks.

    Raises:
        ConfigError: there is none.
    """
    names = class_folders(masks)
    if not names:
        raise ConfigError(
            f"data.folder.multi_label: '{masks}' has no folder for each class, such as {masks.name}/CLASS/a.png. Other "
            "names: data.folder.masks."
        )
    return class_mask_labels(names, layout.ignore_value)


def held_out_ids(ids: Sequence[str], layout: FolderConfig) -> set[str]:
    """The validation split of images that nothing else splits: those with the smallest hashes.

    The same on every machine, and nearly the same when images are added.

    Args:
        ids: of all images.
        layout: says which share, rounded up, and the seed.
    """
    return set(smallest_hashes(ids, layout.val_fraction, layout.split_seed))
