"""Where data sets come from: archives, and how a data set is made from them. The data sets themselves say theirs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One archive of a data set.

    Args:
        filename: what the archive is called.
        folder: the folder inside it that is wanted.
        place: what that folder becomes, below the root of all data sets.
        homepage: where a person finds the archive.
        urls: mirrors, tried in order; empty where a licence or a login forbids downloads by a program. None could be
            opened where ours were written: the content is verified by its checksum.
        size: in bytes, where it is known.
        md5: checksum, where one is published; None is never filled by a guess.
    """

    filename: str
    folder: str
    place: str
    homepage: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How one data set is made from its archives, as `segzoo prepare-data` does it.

    Args:
        sources: the archives that `make` needs, in order.
        folder: `data.root` then, below the root of all data sets.
        splits: published number of images of each.
        train: what follows `segzoo train`.
        make: what follows the unpacking, given the root.
        makes: the file that it makes last, below the root; while it is there, no archive is needed.
        images: pattern of a split's images where no list says what belongs to it; fewer than published are a problem.
        unlabelled: splits without masks.
        optional: splits that training does without.
    """

    sources: tuple[Source, ...]
    folder: str
    splits: Mapping[str, int]
    train: str
    make: Callable[[Path], object] = lambda root: None
    makes: str | None = None
    images: str | None = None
    unlabelled: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
