"""ImageNet (ILSVRC2012) as it is published."""

import re
from collections.abc import Iterator
from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig, ImageNetConfig
from segzoo.data.datasets.image_files import ImageFiles, NamedImage, image_files
from segzoo.data.datasets.listing import Listing, Problem
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.tree import files_below, subfolders, unlisted_lines
from segzoo.errors import ConfigError, DataError, printable
from segzoo.files import text_of

_CLASS = re.compile(r"n\d{8}")
_KAGGLE_IMAGES = Path("Data/CLS-LOC")


def list_imagenet(config: ClassificationDataConfig, split: str, options: ImageNetConfig) -> Listing[NamedImage]:
    """The images of `build_imagenet`, as folders or a file show them; errors as there."""
    root = dataset_root(config)
    images = root / _KAGGLE_IMAGES if (root / _KAGGLE_IMAGES).is_dir() else root
    labels = LabelSpace.of_images(_class_names(images / config.train_split, config))
    folder = images / split
    if not folder.is_dir():
        raise unknown_split(split, [path.name for path in subfolders(images)], str(images))
    where = f"{images}, split {split}"
    if not subfolders(folder):
        found, problems = _mapped(root, folder, options)
        return Listing(found, problems, where, labels)
    unlisted: dict[Path, str] = {}
    found = tuple(
        NamedImage(printable(file.relative_to(folder).as_posix()), file, (path.name,))
        for path in subfolders(folder)
        for file in files_below(path, IMAGE_SUFFIXES, unlisted=unlisted)
    )
    problems = tuple(Problem("unlisted folder", line) for line in unlisted_lines(unlisted))
    return Listing(found, problems, where, labels)


@register_dataset("imagenet", task="classification", options=ImageNetConfig, listing=list_imagenet)
def build_imagenet(config: ClassificationDataConfig, split: str, options: ImageNetConfig) -> ImageFiles:
    """`train/n01440764/*.JPEG` and `val/n01440764/*.JPEG`; or `val/*.JPEG` with a file that says the classes.

    Classes are the training folders' WordNet numbers in their order, which is that of published weights' outputs.

    Args:
        config: `root` holds `train` and `val`, or Kaggle's `ILSVRC` with `Data/CLS-LOC`.
        split: "train" or "val", or another folder beside them.
        options: `val_map` names the file with the classes of validation images that lie in one folder.

    Raises:
        ConfigError: the folder, the split or the file with the classes is not there.
        DataError: images of a class that training does not have, or of none.
    """
    return image_files(lambda name: list_imagenet(config, name, options), config, split)


def _class_names(folder: Path, config: ClassificationDataConfig) -> list[str]:
    names = [path.name for path in subfolders(folder)] if folder.is_dir() else []
    if not names or not all(_CLASS.fullmatch(name) for name in names):
        raise ConfigError(
            f"data.root: '{folder}' has no folders n01440764, n01443537, ..., as ImageNet's training images have. "
            f"Folders of other names: data.name=image_folder. '{config.train_split}' is data.train_split."
        )
    return names


def _mapped(root: Path, folder: Path, options: ImageNetConfig) -> tuple[tuple[NamedImage, ...], tuple[Problem, ...]]:
    """Images in one folder, with the classes that a file names."""
    if options.val_map is None:
        raise ConfigError(
            f"data.imagenet.val_map: '{folder}' has no folder for each class. Name the file with a line "
            "`ILSVRC2012_val_00000001.JPEG n01751748` for each image, such as Kaggle's LOC_val_solution.csv."
        )
    path = root / options.val_map
    if not path.is_file():
        raise ConfigError(f"data.imagenet.val_map: no file '{path}'")
    classes = dict(_lines(path))
    files = files_below(folder, IMAGE_SUFFIXES)
    unnamed = (file for file in files if file.stem not in classes)
    images = tuple(
        NamedImage(printable(file.name), file, (classes[file.stem],), str(path))
        for file in files
        if file.stem in classes
    )
    return images, tuple(Problem("no class", f"{file}: {path.name} does not name it") for file in unnamed)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each image's name without its suffix, and its class; what follows in a line is left out.

    Raises:
        DataError: no line names an image and a class.
    """
    text = text_of(path, any_bytes=True)
    pairs = [fields for line in text.splitlines() if len(fields := re.split(r"[,\s]+", line.strip())) >= 2]
    named = [(Path(name).stem, wordnet) for name, wordnet, *_ in pairs if _CLASS.fullmatch(wordnet)]
    if not named:
        raise DataError(f"{path}: no line of the form `ILSVRC2012_val_00000001.JPEG n01751748`")
    yield from named
