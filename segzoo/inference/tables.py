"""What was found in the images of a folder, in one table."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segzoo.escapes import csv_line
from segzoo.files import write_atomically

AREAS_FILE = "areas.csv"
PREDICTIONS = "predictions.csv"

Ranking = Sequence[tuple[str, float]]
"""Classes with their probabilities, the most probable first."""


def write_areas(path: Path, names: Sequence[str], images: Iterable[tuple[str, Sequence[int], int]]) -> None:
    """Write a CSV with a row for each image and class: pixels, and their share of the image.

    Args:
        path: the file.
        names: of the classes.
        images: name, pixels of each class, and pixels of the image.
    """
    lines = [csv_line(["image", "class", "pixels", "share"])]
    for image, counts, size in images:
        entries = zip(names, counts, strict=True)
        lines += [csv_line([image, name, count, f"{count / size:.6f}"]) for name, count in entries]
    write_atomically(path, "".join(lines).encode())


def write_predictions(path: Path, count: int, images: Mapping[str, Ranking]) -> None:
    """Write a CSV with a row for each image: class_1, probability_1, class_2, ...

    Args:
        path: the file.
        count: classes in a row.
        images: name -> as many classes.
    """
    ranks = [cell for rank in range(1, count + 1) for cell in (f"class_{rank}", f"probability_{rank}")]
    lines = [csv_line(["image", *ranks])]
    for image, ranking in images.items():
        lines.append(csv_line([image, *(cell for name, chance in ranking for cell in (name, f"{chance:.6f}"))]))
    write_atomically(path, "".join(lines).encode())
