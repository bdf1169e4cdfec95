"""The files of one split as names and lists show them, and what is wrong with them, before anything is raised.

A loader raises all problems of its listing at once (`Listing.checked_pairs`); the doctor (`segzoo check-data`) makes
the listing with the same function, collects the problems and goes on to the pixels.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.classification.dataset import CLASSIFICATION_DATASETS
from segzoo.data.images import mask_size
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import Pair, raise_all, size_mismatch
from segzoo.data.pixels import PixelFormat
from segzoo.errors import DataError, SegzooError, in_groups
from segzoo.registry import Registry

logger = logging.getLogger(__name__)


class Problem(NamedTuple):
    """Something wrong with a data set's files.

    Args:
        kind: the fault in two or three words ("missing mask"); reports group by it.
        line: file, what is wrong with it, and what to do, in one line.
    """

    kind: str
    line: str


@dataclass(frozen=True)
class Listing:
    """One split as its names and lists show it; no pixel is read.

    Args:
        pairs: images that have a mask, in order; every file of them is there.
        problems: what keeps the split from being used.
        where: the split in words, for messages.
        labels: what the values in the masks mean; None where only the masks themselves tell.
        warnings: what is odd, and does not keep the split from being used.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    where: str
    labels: LabelSpace | None = None
    warnings: tuple[Problem, ...] = ()

    def checked_pairs(self) -> tuple[Pair, ...]:
        """The pairs of a split without a problem; warnings are logged.

        Raises:
            DataError: there are problems; all of them, one line each.
        """
        for line in in_groups(warning.line for warning in self.warnings):
            logger.warning("%s", line)
        raise_all([problem.line for problem in self.problems])
        return self.pairs


ListingBuilder = Callable[[DataConfig, str], Listing]

LISTINGS: Registry[ListingBuilder] = Registry("data set of files")


def register_listing(name: str) -> Callable[[ListingBuilder], ListingBuilder]:
    """Decorate a function `(config, split) -> Listing`, so that the doctor can go on past the first fault.

    Args:
        name: value of `data.name`.

    Raises:
        ConfigError: the name is taken.
    """
    return LISTINGS.register(name)


def input_folders(config: DataConfig | ClassificationDataConfig) -> set[Path]:
    """The folders that a run's images and masks lie in, where no output belongs; none of a set that is in no files."""
    files: list[Path] = []
    for split in {config.train_split, config.val_split}:
        with suppress(SegzooError):  # the command's own work says what is wrong
            if isinstance(config, ClassificationDataConfig):
                files += getattr(CLASSIFICATION_DATASETS[config.name](config, split), "files", ())
            elif config.name in LISTINGS:
                pairs = LISTINGS[config.name](config, split).pairs
                files += (file for pair in pairs for file in (pair.image, *pair.mask_files))
    return {file.parent for file in files}


def with_headers(listing: Listing, pixels: PixelFormat) -> Listing:
    """Without the pairs whose headers are unreadable or of different size, each a problem instead.

    Args:
        listing: names only.
        pixels: what the images become.
    """
    sound, problems = [], []
    colored = listing.labels is not None and listing.labels.raw_colors
    for pair in listing.pairs:
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
    return replace(listing, pairs=tuple(sound), problems=(*listing.problems, *problems))
