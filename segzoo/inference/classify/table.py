"""The most probable classes of every image, in one table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from segzoo.escapes import csv_line
from segzoo.files import write_atomically

PREDICTIONS = "predictions.csv"

Ranking = Sequence[tuple[str, float]]
"""Classes with their probabilities, the most probable first."""


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
