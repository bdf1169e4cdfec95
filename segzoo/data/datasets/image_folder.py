"""A folder of images for each class."""

from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.datasets.image_files import ImageFiles, NamedImage, image_files
from segzoo.data.datasets.listing import Listing, Problem
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.datasets.splits import held_out_of_each
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.reading.tree import files_below, left_out_line, name_of, subfolders, unlisted_lines
from segzoo.errors import ConfigError, printable


def list_image_folder(config: ClassificationDataConfig, split: str) -> Listing[NamedImage]:
    """The images of `build_image_folder`, as the folders show them.

    Raises:
        ConfigError: the folder or the split is not there.
    """
    root = dataset_root(config)
    where = f"{root}, split {split}"
    if any((root / name).is_dir() for name in (config.train_split, config.val_split)):  # or they would be classes
        if not (root / split).is_dir():
            found = [path.name for path in subfolders(root)]
            instead = f", or hold out a share of these images (data.val_fraction): data.root={root / found[0]}"
            raise unknown_split(split, found, str(root), instead)
        return _listed(root / split, where, config)
    everything = _listed(root, where, config)
    if split not in {"train", "val"}:
        raise unknown_split(split, ["train", "val"], str(root))
    ids = [image.id for image in everything.items]
    groups = [image.classes for image in everything.items]
    held_out = held_out_of_each(ids, groups, config.val_fraction, config.split_seed)
    chosen = tuple(image for image in everything.items if (image.id in held_out) == (split == "val"))
    return Listing(chosen, everything.problems, where, warnings=everything.warnings if split == "train" else ())


@register_dataset("image_folder", task="classification", reads=("classes",), listing=list_image_folder)
def build_image_folder(config: ClassificationDataConfig, split: str) -> ImageFiles:
    """Images at any depth below a folder for each class: `train/cat/a.jpg`, `val/cat/b.jpg`; or `cat/a.jpg`.

    Without folders for the splits, a share of each class's images (`val_fraction`), chosen by their names alone, is
    `val`, the others are `train`.

    Args:
        config: `root` holds the folders.
        split: name of a split's folder, or "train", "val".

    Raises:
        ConfigError: the folder or the split is not there.
        DataError: a split without images, or with images of a class that training does not have.
    """
    return image_files(lambda name: list_image_folder(config, name), config, split)


def _listed(folder: Path, where: str, config: ClassificationDataConfig) -> Listing[NamedImage]:
    suffixes = PixelFormat.of(config).suffixes
    classes = subfolders(folder)
    if not classes:
        raise ConfigError(
            f"data.root: '{folder}' has no folder for each class, such as {folder.name}/cat/a.jpg. A table of files "
            "and labels: data.name=csv."
        )
    unlisted: dict[Path, str] = {}
    others: list[Path] = []
    files = {path: files_below(path, suffixes, unlisted=unlisted, others=others) for path in classes}
    images = [
        NamedImage(printable(file.relative_to(folder).as_posix()), file, (name_of(path),))
        for path, found in files.items()
        for file in found
    ]
    warnings = [
        Problem("empty folder", f"{path}: no image in this folder; left out")
        for path, found in files.items()
        if not found
    ]
    if left_out := left_out_line(folder, others):
        warnings.append(Problem("files left out", left_out))
    problems = [Problem("unlisted folder", line) for line in unlisted_lines(unlisted)]
    return Listing(tuple(images), tuple(problems), where, warnings=tuple(warnings))
