"""Which images a split consists of, so that a run that goes on another day sees whether they are the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from unicodedata import normalize

Inventory = dict[str, list[Any]]
"""Of each image, by its id, in order: the sizes of its files in bytes, and the classes of an image that has some."""


class Identified(Protocol):
    """What an inventory asks of a data set."""

    @property
    def ids(self) -> Sequence[str]:
        """One id per sample, in order."""


@runtime_checkable
class FileBased(Protocol):
    """A data set whose samples lie in files. Optional: without it, only the ids can be compared."""

    def files_of(self, index: int) -> Sequence[Path]:
        """The files of a sample: its image and, where it has one, its mask."""


def inventory_of(dataset: Identified) -> Inventory:
    """What a split consists of: no file is opened, so that a million are looked at in seconds."""
    classes = getattr(dataset, "classes", None)  # of data sets for classification
    files_of = dataset.files_of if isinstance(dataset, FileBased) else lambda _: ()
    found: Inventory = {}
    for index, name in enumerate(dataset.ids):
        sizes = [_size(path) for path in files_of(index)]
        # The same name is written in two ways by two systems.
        found[normalize("NFC", name)] = [*sizes, *([] if classes is None else [list(classes[index])])]
    return found


def differences(before: Inventory, now: Inventory) -> str:
    """How a split differs from what it was, in words; empty where it does not."""
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "exchanged": [name for name, entry in before.items() if now.get(name, entry) != entry],
    }
    found = [f"{len(names)} {kind} ({_examples(names)})" for kind, names in kinds.items() if names]
    return ", ".join(found) or ("" if list(before) == list(now) else "in another order")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # said with its reason when it is read
        return None


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
