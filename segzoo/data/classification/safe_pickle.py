"""Reading the pickles of CIFAR-10 without running anything that they name.

A pickle says which functions to call. The published files name three of NumPy's, to build an array of bytes; here those
names stand for recorders of our own, and every other name is refused.
"""

import io
import pickle  # only its parser, see `_Unpickler`
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import DataError, first_line


def read_pickled_batch(content: bytes, name: str) -> dict[str, Any]:
    """The dictionary in one file of CIFAR-10, its keys as text.

    Args:
        content: of the file.
        name: of the file, for messages.

    Returns:
        Text, numbers and lists as they are; arrays as uint8 arrays of NumPy, bytes as bytes.

    Raises:
        DataError: damaged, or it holds something else than a published file does; nothing was executed.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: refused, {error}") from None
    except Exception as error:  # a damaged pickle raises nearly every type
        raise DataError(f"{name}: damaged or no file of CIFAR-10 ({first_line(error)})") from None
    if not isinstance(found, dict) or not all(isinstance(key, bytes) for key in found):
        raise DataError(f"{name}: no file of CIFAR-10 (no dictionary with names)")
    return {key.decode("latin-1"): _built(value) for key, value in found.items()}


class _Name:
    """Stands for something that a pickle names; nothing in the pickle can change it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise DataError("it changes what it names")


class _ByteType:
    """Stands for the type uint8, the only one there is."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Byte order and the like, which bytes have none of."""


class _ByteArray:
    """Stands for an array until its bytes are known."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: npt.NDArray[np.uint8] | None = None

    def __setstate__(self, state: object) -> None:
        """Take (version, shape, type, column order, bytes), as NumPy's arrays do."""
        match state:
            case (int(), tuple() as shape, _ByteType(), bool() | int() as columns, bytes() as content):
                rows = np.frombuffer(content, np.uint8)
                self.array = rows.reshape(_extents(shape), order="F" if columns else "C")
            case _:
                raise DataError("it holds another kind of array than bytes")


class _ArrayKind(_Name):
    """Stands for `numpy.ndarray`, which the files name and do not call."""

    __slots__ = ()


class _TypeMaker(_Name):
    """Stands for `numpy.dtype`."""

    __slots__ = ()

    def __call__(self, *arguments: object) -> _ByteType:
        if not arguments or arguments[0] not in (b"u1", "u1"):
            raise DataError("it holds another kind of array than bytes")
        return _ByteType()


class _ArrayMaker(_Name):
    """Stands for NumPy's `_reconstruct`, whose arguments say an empty array."""

    __slots__ = ()

    def __call__(self, *arguments: object) -> _ByteArray:
        return _ByteArray()


_STAND_INS = {
    ("numpy", "dtype"): _TypeMaker,
    ("numpy", "ndarray"): _ArrayKind,
    ("numpy.core.multiarray", "_reconstruct"): _ArrayMaker,  # before NumPy 2, as in the published files
    ("numpy._core.multiarray", "_reconstruct"): _ArrayMaker,
}


def _extents(shape: tuple[object, ...]) -> tuple[int, ...]:
    extents = tuple(extent for extent in shape if isinstance(extent, int) and extent >= 0)
    if len(extents) != len(shape):
        raise DataError("it holds an array of impossible shape")
    return extents


class _Unpickler(pickle.Unpickler):  # finds nothing but the stand-ins above
    def find_class(self, module: str, name: str) -> object:
        """What a name in the pickle stands for.

        Raises:
            DataError: it is none that the published files have.
        """
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]()
        raise DataError(f"it names {module}.{name}, which no file of CIFAR-10 does and which could run code")

    def persistent_load(self, pid: object) -> object:
        """Objects from elsewhere.

        Raises:
            DataError: always.
        """
        raise DataError("it asks for objects from outside of the file")


def _built(value: object) -> object:
    return value.array if isinstance(value, _ByteArray) else value
