"""The files of one split as names and lists show them, and what is wrong with them, before anything is raised.

A loader raises all problems of its listing at once (`Listing.checked`); the doctor (`segzoo check-data`) makes
the listing with the same function, collects the problems and goes on to the pixels.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from segzoo.data.datasets.pairs import Pair, raise_all, size_mismatch
from segzoo.data.reading.images import mask_size
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.errors import DataError, in_groups

logger = logging.getLogger(__name__)


class Problem(NamedTuple):
    """Something wrong with a data set's files.

    Args:
        kind: the fault in two or three words ("missing mask"); reports group by it.
        line: file, what is wrong with it, and what to do, in one line.
    """

    kind: str
    line: str


class Listed(Protocol):
    """What a listing holds: an image with its mask, or with its classes."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that it lies in."""


Item = TypeVar("Item", bound=Listed, covariant=True)


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """One split as its names and lists show it; no pixel is read.

    Args:
        items: images that have what belongs to them, in order; every file of them is there.
        problems: what keeps the split from being used.
        where: the split in words, for messages.
        labels: what the values in the masks mean; None where only the masks themselves tell, or there are none.
        warnings: what is odd, and does not keep the split from being used.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    where: str
    labels: LabelSpace | None = None
    warnings: tuple[Problem, ...] = ()

    @property
    def files(self) -> Iterator[Path]:
        """Of all images and their masks."""
        return (file for item in self.items for file in item.files)

    def checked(self, problems: Iterable[Problem] = ()) -> tuple[Item, ...]:
        """The images of a split without a problem; warnings are logged.

        Args:
            problems: more of them.

        Raises:
            DataError: there are problems; all of them, one line each.
        """
        for line in in_groups(warning.line for warning in self.warnings):
            logger.warning("%s", line)
        raise_all([problem.line for problem in (*self.problems, *problems)])
        return self.items


def with_headers(listing: Listing[Pair], pixels: PixelFormat) -> Listing[Pair]:
    """Without the pairs whose headers are unreadable or of different size, each a problem instead.

    Args:
        listing: names only.
        pixels: what the images become.
    """
    sound, problems = [], []
    colored = listing.labels is not None and listing.labels.raw_colors
    for pair in listing.items:
        try:
            image = pixels.size(pair.image)
            masks = {path: mask_size(path, colored=colored) for path in pair.mask_files}
        except DataError as error:
            problems += [Problem("unreadable file", line) for line in error.problems]
            continue
        wrong = [
            Problem("size mismatch", size_mismatch(replace(pair, mask=path), image, mask))
            for path, mask in masks.items()
            if mask != image
        ]
        problems += wrong
        if not wrong:
            sound.append(pair)
    return replace(listing, items=tuple(sound), problems=(*listing.problems, *problems))
