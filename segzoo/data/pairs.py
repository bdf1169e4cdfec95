"""Data sets that are pairs of files: an image and its mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.data.dataset import Sample
from segzoo.data.images import read_image, read_mask
from segzoo.data.labels import LabelSpace
from segzoo.errors import DataError

_LISTED = 50  # problems spelled out before the rest is only counted


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file.

    Args:
        id: unique in the split.
        image: file of the image.
        mask: file of the mask.
        place: where the pair is listed ("train.txt:7"), for messages; empty when no list names it.
    """

    id: str
    image: Path
    mask: Path
    place: str = ""


class FileDataset:
    """Samples read from pairs of files, each when it is asked for.

    Args:
        pairs: the files, in order.
        labels: what the values in the mask files mean.
        where: the split in words, for messages.

    Raises:
        DataError: there is no pair.
    """

    def __init__(self, pairs: Sequence[Pair], labels: LabelSpace, where: str) -> None:
        if not pairs:
            raise DataError(f"{where}: empty, no image to use")
        self.pairs = tuple(pairs)
        self.labels = labels
        self.ids = tuple(pair.id for pair in pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair.

        Raises:
            DataError: a file is damaged, the sizes differ, or the mask holds a value that is no class.
        """
        pair = self.pairs[index]
        image = read_image(pair.image)
        raw_mask = read_mask(pair.mask)
        if raw_mask.shape != image.shape[:2]:
            raise DataError(size_mismatch(pair, image.shape[:2], raw_mask.shape))
        try:
            mask = self.labels.encode(raw_mask)
        except DataError as error:
            raise DataError(f"{pair.mask}: {error}") from None
        return Sample(image, mask, pair.id)


def size_mismatch(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """The line for a mask of another size than its image; sizes are (height, width)."""
    return (
        f"{pair.mask}: mask is {mask[0]}x{mask[1]} but its image {pair.image.name} {image[0]}x{image[1]} "
        "(height x width); export the mask at the image's size"
    )


def refuse_missing_files(pairs: Sequence[Pair]) -> None:
    """Check that every listed file is there.

    Raises:
        DataError: files are missing; one line each.
    """
    problems = [
        f"{pair.place}: no {kind} {path}. Add the file or take the line out."
        for pair in pairs
        for kind, path in (("image", pair.image), ("mask", pair.mask))
        if not path.is_file()
    ]
    raise_all(problems)


def raise_all(problems: Sequence[str]) -> None:
    """Raise one `DataError` with all problems, if there are any.

    Raises:
        DataError: `problems` is not empty.
    """
    if len(problems) > _LISTED:
        problems = [*problems[:_LISTED], f"... and {len(problems) - _LISTED} more problems like these"]
    if problems:
        raise DataError(problems)
