"""CIFAR-10 as it is published: python pickles in an archive, read without running anything in them."""

import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.archive import DAMAGE, open_tar
from segzoo.data.classification.dataset import ImageArrays, register_classification_dataset
from segzoo.data.classification.safe_pickle import read_pickled_batch
from segzoo.data.dataset import dataset_root, how_to_get, unknown_split
from segzoo.data.images import Array8
from segzoo.data.labels import LabelSpace
from segzoo.data.sources import SOURCES
from segzoo.errors import ConfigError, DataError, first_line

FOLDER = "cifar-10-batches-py"
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_BATCHES: Mapping[str, Sequence[str]] = {"train": _TRAIN, "test": _TEST, "val": _TEST}
_NAMES = "batches.meta"
_LARGEST = 64 * 2**20  # bytes of one file, of which the largest published one has 31 million
_MOST_MEMBERS = 100  # of an archive, of which the published one has 9

Read = Callable[[str], bytes]
"""The content of one of the files, by its name."""


@register_classification_dataset("cifar10")
def build_cifar10(config: ClassificationDataConfig, split: str) -> ImageArrays:
    """The 50,000 training images, or the 10,000 test images, which the field validates on: `test` or `val`.

    Args:
        config: `root` is `cifar-10-batches-py` or the folder that holds it or the archive `cifar-10-python.tar.gz`,
            which is read as it is.
        split: "train", "val" or "test".

    Raises:
        ConfigError: neither is there, or no such split.
        DataError: a file is damaged, or holds something else than what is published; nothing in it is executed.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the layout is that of
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    if split not in _BATCHES:
        raise unknown_split(split, list(_BATCHES), "CIFAR-10")
    files = _read_files(config, [*_BATCHES[split], _NAMES])
    names = _class_names(files[_NAMES])
    parts = [_batch(name, files[name], len(names)) for name in _BATCHES[split]]
    labels = [label for _, batch_labels in parts for label in batch_labels]
    return ImageArrays(
        np.concatenate([images for images, _ in parts]),
        classes=[(label,) for label in labels],
        labels=LabelSpace.of_images(names),
        ids=[f"{split}_{number:05d}" for number in range(len(labels))],
    )


def _read_files(config: ClassificationDataConfig, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Files of the data set by their names, from the folder or else the archive."""
    root = dataset_root(config)
    source = SOURCES["cifar10"]
    folder = next((path for path in (root / FOLDER, root) if (path / _NAMES).is_file()), None)
    archive = root / source.filename
    if folder is not None:
        return {name: read_pickled_batch(_from_folder(folder, name), str(folder / name)) for name in names}
    if not archive.is_file():
        raise ConfigError(
            f"data.root: neither {FOLDER} nor {source.filename} in '{root}'. {how_to_get(config)}; or fetch "
            f"{source.urls[0]} elsewhere and put it there"
        )
    try:
        with open_tar(archive) as (opened, _):
            _refuse_others(opened, archive)
            read = partial(_from_archive, opened, archive)
            return {name: read_pickled_batch(read(name), f"{archive}: {FOLDER}/{name}") for name in names}
    except (*DAMAGE, OSError) as error:
        raise DataError(f"{archive}: damaged or incomplete ({first_line(error)}); fetch it again") from None


def _from_folder(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise DataError(f"{path}: not there; unpack {SOURCES['cifar10'].filename} again")
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes are no file of CIFAR-10")
    return path.read_bytes()


def _refuse_others(opened: tarfile.TarFile, archive: Path) -> None:
    """Refuse an archive of too much before all of it is unpacked in search of a name."""
    for number, member in enumerate(opened):
        if number == _MOST_MEMBERS or member.size > _LARGEST:
            raise DataError(f"{archive}: {member.name} is no file of CIFAR-10")


def _from_archive(opened: tarfile.TarFile, archive: Path, name: str) -> bytes:
    try:
        member = opened.getmember(f"{FOLDER}/{name}")
    except KeyError:
        raise DataError(f"{archive}: holds no {FOLDER}/{name}; is this CIFAR-10's python version?") from None
    content = opened.extractfile(member) if member.isreg() and member.size <= _LARGEST else None
    if content is None:
        raise DataError(f"{archive}: {member.name} is no file of CIFAR-10")
    return content.read()


def _class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    names = meta.get("label_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, bytes) for name in names):
        raise DataError(f"{_NAMES}: no label_names; is this CIFAR-10?")
    return tuple(name.decode("utf-8", "backslashreplace") for name in names)


def _batch(name: str, content: Mapping[str, Any], classes: int) -> tuple[Array8, list[int]]:
    """Images (N, 32, 32, 3) and class numbers of one file: rows of 1024 red, 1024 green, 1024 blue values."""
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(f"{name}: no rows of {_PIXELS} bytes as `data`; is this CIFAR-10?")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(_is_class(k, classes) for k in labels):
        raise DataError(f"{name}: `labels` are not one number of 0 to {classes - 1} for each of {len(data)} images")
    return np.ascontiguousarray(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)), labels


def _is_class(value: object, classes: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < classes
