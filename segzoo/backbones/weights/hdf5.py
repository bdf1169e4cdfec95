"""HDF5 files of strangers: numbers that lie in the file itself, and no more of them than it can hold.

HDF5 can say that a dataset's bytes are those of any other file, by a link or as external storage, and that there are
more of them than any machine has memory for. Weights need neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from segzoo.errors import CheckpointError, first_line

MOST_TIMES = 4
"""Weights are random to a compressor, which makes them half as large at the best: more than this is a trap."""

_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, OverflowError, SystemError)
"""What h5py raises where a file is damaged, by the place of the damage."""


class Hdf5Content:
    """An open file, whose links all stay inside it.

    Args:
        content: as h5py opened it.
        size: of the file in bytes.
        source: what to call it in messages.
    """

    def __init__(self, content: h5py.File, size: int, source: str) -> None:
        self.root: h5py.Group = content
        self.source = source
        self._bytes_left = MOST_TIMES * size
        link = content.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name)
        if link is not None:
            raise CheckpointError(f"{source}: refused, because {link} is a link, which no file of weights needs.")

    def group(self, parent: h5py.Group, name: str) -> h5py.Group:
        """A group inside another.

        Raises:
            ValueError: what has that name is no group.
        """
        found = parent[name]
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{found.name} is no group")
        return found

    def names(self, group: h5py.Group, key: str) -> list[str]:
        """An attribute that is a list of names.

        Raises:
            ValueError: it is something else.
        """
        found = group.attrs[key]
        if np.ndim(found) != 1 or not all(isinstance(name, bytes | str) for name in found):
            raise ValueError(f"{key} of {group.name} is no list of names")
        return [name.decode() if isinstance(name, bytes) else name for name in found]

    def array(self, group: h5py.Group, name: str) -> np.ndarray:
        """A dataset of numbers, in float32 where they have fractions.

        Raises:
            ValueError: it is something else.
            CheckpointError: it lies elsewhere, or with those before it it claims more than the file can hold.
        """
        found = group[name]
        if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "iuf":
            raise ValueError(f"{found.name} is no array of numbers")
        if found.external or found.is_virtual:
            raise CheckpointError(f"{self.source}: refused, because the numbers of {found.name} lie in another file.")
        self._bytes_left -= max(found.nbytes, int(np.prod(found.chunks or (), dtype=object)) * found.dtype.itemsize)
        if self._bytes_left < 0:
            raise CheckpointError(f"{self.source}: refused, because its arrays claim more numbers than the file has.")
        with np.errstate(over="ignore"):  # of float64: what becomes infinite is refused with its name
            return np.asarray(found[()], np.float32 if found.dtype.kind == "f" else None)


@contextmanager
def open_hdf5(file: Path | IO[bytes], size: int, source: str) -> Iterator[Hdf5Content]:
    """Open a file for reading; what is wrong in it, found while it is open, becomes one line.

    Args:
        file: HDF5, by path or opened.
        size: of the file in bytes.
        source: what to call it in messages.

    Raises:
        CheckpointError: damaged, refused, or not as the reader expects.
    """
    try:
        with h5py.File(file, "r") as content:
            yield Hdf5Content(content, size, source)
    except _DAMAGE as error:
        reason = first_line(error)
        raise CheckpointError(f"{source}: cannot be read as Keras weights ({reason}); is it cut off?") from None
