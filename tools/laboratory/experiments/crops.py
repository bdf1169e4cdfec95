"""The built-in task: which thing is in the middle of a picture, cut from the built-in scenes."""

import logging
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segzoo.data.datasets.synthetic import LABELS, draw_scene
from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.images import write_image

TRAIN_IMAGES, VAL_IMAGES = 400, 100
"""Of each class."""
SIDE = 48
"""Of a picture, in pixels."""

_SCENE = (96, 128)
_SEEDS = {"train": 11, "val": 12}  # part of every scene's seed; those of the data set `synthetic` are others

logger = logging.getLogger(__name__)


def write_crops(folder: Path, *, train: int = TRAIN_IMAGES, val: int = VAL_IMAGES) -> None:
    """Write `train/tree/00007.png`, ...: an image folder of seven classes, the same on every machine.

    A picture's class is that of the scene's pixel in its middle: sky, ground, building, tree, tent, ball or pole. The
    scenes of the two splits differ. What is there already stays.

    Args:
        folder: to be made; whole or not at all.
        train: training images of each class.
        val: validation images of each class.
    """
    if folder.is_dir():
        return
    logger.info("drawing %d pictures into %s", (train + val) * LABELS.num_classes, folder)
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    for split, images in (("train", train), ("val", val)):
        for name in LABELS.names:
            (unfinished / split / name).mkdir(parents=True)
        _write_split(unfinished / split, _SEEDS[split], images)
    unfinished.rename(folder)


def _write_split(folder: Path, seed: int, images: int) -> None:
    missing = dict.fromkeys(range(LABELS.num_classes), images)
    for number in count():
        if not any(missing.values()):
            return
        rng = np.random.default_rng((seed, number))
        image, mask = draw_scene(rng, _SCENE)
        for index in (index for index, left in missing.items() if left):
            crop = crop_around(index, image, mask, rng)
            if crop is not None:
                write_image(folder / LABELS.names[index] / f"{number:05d}.png", crop)
                missing[index] -= 1


def crop_around(
    index: int, image: Array8, mask: npt.NDArray[np.uint8], rng: np.random.Generator, side: int = SIDE
) -> Array8 | None:
    """A square around a random pixel of a class.

    Args:
        index: the class.
        image: the scene.
        mask: its classes.
        rng: chooses the pixel.
        side: of the square in pixels; even.

    Shape: image (H, W, 3), mask (H, W). Returns (side, side, 3).

    Returns:
        None where no pixel of the class has so much of the scene around it.
    """
    height, width = mask.shape
    half = side // 2
    rows, columns = np.nonzero(mask[half : height - half + 1, half : width - half + 1] == index)
    if not len(rows):
        return None
    chosen = int(rng.integers(len(rows)))
    top, left = int(rows[chosen]), int(columns[chosen])
    return image[top : top + side, left : left + side]
