"""CIFAR-10 from its binary version: bytes in rows, so that nothing has to be unpickled."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segzoo.config.classification import ClassificationDataConfig
from segzoo.data.datasets.spec import Recipe, Source, dataset_root, how_to_get, register_dataset, unknown_split
from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import Pixels
from segzoo.data.sample import ClassesOf
from segzoo.errors import ConfigError, DataError, first_line
from segzoo.fetching.archive import DAMAGE, open_tar

FOLDER = "cifar-10-batches-bin"
SOURCE = Source(
    filename="cifar-10-binary.tar.gz",
    folder=FOLDER,
    place=f"cifar10/{FOLDER}",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    size=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",  # from the page
)
RECIPE = Recipe((SOURCE,), "cifar10", {"train": 50_000, "test": 10_000}, train="configs/xception_cifar10.yaml")

_PICKLED = ("cifar-10-batches-py", "batches.meta", "cifar-10-python.tar.gz")  # what shows that it is the python version
_SIDE = 32
_ROW = 1 + 3 * _SIDE * _SIDE  # bytes of an image: its class, then all red, all green and all blue values
_BATCHES: Mapping[str, Sequence[str]] = {
    "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["test_batch.bin"],
    "val": ["test_batch.bin"],
}
_NAMES = "batches.meta.txt"
_LARGEST = 64 * 2**20  # bytes of one file, of which the largest published one has 31 million
_MOST_MEMBERS = 100  # of an archive, of which the published one has 9


class ImageArrays:
    """Images that are in memory: 8-bit RGB, (N, H, W, 3)."""

    def __init__(self, images: Array8, classes: ClassesOf, labels: LabelSpace, ids: Sequence[str]) -> None:
        self.images = images
        self.classes = classes
        self.labels = labels
        self.ids = ids

    def __len__(self) -> int:
        return len(self.images)

    def read_image(self, index: int) -> Pixels:
        """An image of its own memory."""
        return np.array(self.images[index], order="C")


@register_dataset("cifar10", task="classification", reads=(), recipes={"cifar10": RECIPE})
def build_cifar10(config: ClassificationDataConfig, split: str) -> ImageArrays:
    """The 50,000 training images, or the 10,000 test images, which the field validates on: `test` or `val`.

    Root is `cifar-10-batches-bin`, or the folder that holds it or the archive `cifar-10-binary.tar.gz`, which is read
    as it is.

    Raises:
        ConfigError: neither is there, or no such split.
        DataError: a file is damaged, or holds something else than what is published.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the layout is that of
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    if split not in _BATCHES:
        raise unknown_split(split, list(_BATCHES), "CIFAR-10")
    files = _read_files(config, [*_BATCHES[split], _NAMES])
    names = files.pop(_NAMES).decode("utf-8", "backslashreplace").split()
    if not names:
        raise DataError(f"{_NAMES}: names no class; is this CIFAR-10?")
    rows = np.concatenate([_rows(name, content, len(names)) for name, content in files.items()])
    return ImageArrays(
        np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)),
        classes=[(label,) for label in rows[:, 0].tolist()],
        labels=LabelSpace.of_images(names),
        ids=[f"{split}_{number:05d}" for number in range(len(rows))],
    )


def _rows(name: str, content: bytes, classes: int) -> Array8:
    """A row for each image of one file, its class first."""
    if not content or len(content) % _ROW:
        raise DataError(f"{name}: {len(content):,} bytes are no rows of {_ROW}; is this CIFAR-10?")
    rows = np.frombuffer(content, np.uint8).reshape(-1, _ROW)
    if rows[:, 0].max() >= classes:
        raise DataError(f"{name}: a class {rows[:, 0].max()}, where {_NAMES} names 0 to {classes - 1}")
    return rows


def _read_files(config: ClassificationDataConfig, names: Sequence[str]) -> dict[str, bytes]:
    """The content of files by their names, from the folder or else the archive."""
    root = dataset_root(config)
    folder = next((path for path in (root / FOLDER, root) if (path / _NAMES).is_file()), None)
    archive = root / SOURCE.filename
    if folder is not None:
        return {name: _from_folder(folder, name) for name in names}
    if not archive.is_file():
        pickled = next((root / name for name in _PICKLED if (root / name).exists()), None)
        instead = f" {pickled} is the python version, whose pickles could run code: not read." if pickled else ""
        raise ConfigError(
            f"data.root: neither {FOLDER} nor {SOURCE.filename} in '{root}'.{instead} {how_to_get(config)}; or fetch "
            f"{SOURCE.urls[0]} elsewhere and put it there"
        )
    return _from_archive(archive, names)


def _from_folder(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise DataError(f"{path}: not there; unpack {SOURCE.filename} again")
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes are no file of CIFAR-10")
    return path.read_bytes()


def _from_archive(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The content of some members, in the order of `names`; an archive of much more than CIFAR-10 is not unpacked."""
    found: dict[str, bytes] = {}
    wanted = {f"{FOLDER}/{name}": name for name in names}
    try:
        with open_tar(archive) as (opened, _):
            for number, member in enumerate(opened):
                if number == _MOST_MEMBERS or member.size > _LARGEST:
                    raise DataError(f"{archive}: {member.name} is no file of CIFAR-10")
                if member.name in wanted:
                    content = opened.extractfile(member) if member.isreg() else None
                    if content is None:
                        raise DataError(f"{archive}: {member.name} is no file of CIFAR-10")
                    found[wanted[member.name]] = content.read()
    except (*DAMAGE, OSError) as error:
        raise DataError(f"{archive}: damaged or incomplete ({first_line(error)}); fetch it again") from None
    for name in names:
        if name not in found:
            raise DataError(f"{archive}: holds no {FOLDER}/{name}; is this CIFAR-10's binary version?")
    return {name: found[name] for name in names}
