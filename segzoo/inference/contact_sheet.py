"""A page with some of the predictions, to see at a glance whether they make sense."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.data.pictures import Cell, draw_sheet, resized_mask
from segzoo.data.reading.images import Array8
from segzoo.data.reading.labels import LabelSpace
from segzoo.files import write_atomically

CONTACT_SHEET = "contact_sheet.jpg"

LARGEST = 24
"""Images on a page."""

_COLUMNS = 6
_SIDE = 256  # what a cell is shown at


def spread(count: int, chosen: int = LARGEST) -> list[int]:
    """Which of `count` images stand on the page: as many as fit, evenly over all.

    >>> spread(5, chosen=3), spread(2, chosen=3)
    ([0, 2, 4], [0, 1])
    """
    if count <= chosen:
        return list(range(count))
    return [index * (count - 1) // (chosen - 1) for index in range(chosen)]


def thumbnail(caption: str, image: Array8, mask: Array8) -> Cell:
    """A cell that keeps no more than the page shows, whatever the image's size.

    Shape: image (H, W, 3), mask (H, W) or (K, H, W).
    """
    height, width = image.shape[:2]
    scale = min(1, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return Cell(caption, np.asarray(small), resized_mask(mask, size))


def write_contact_sheet(path: Path, cells: Sequence[Cell], labels: LabelSpace, title: str) -> None:
    """Overlays with their names, and a legend of the classes, as JPEG: no mask has such a name."""
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    encoded = io.BytesIO()
    Image.fromarray(draw_sheet(rows, labels, title)).save(encoded, format="JPEG", quality=90, subsampling=0)
    write_atomically(path, encoded.getvalue())
