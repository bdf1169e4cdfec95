"""How long segmenting a folder takes, from files to masks, beside the network's own time."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laboratory.benchmarks.machine import waiting
from laboratory.benchmarks.rates import Rate, rate_table, rates
from laboratory.benchmarks.rounds import Clock, take_turns
from segzoo.inference.listing import find_images
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor


def measure_predict(
    predictor: Predictor,
    source: Path,
    *,
    save: Sequence[str] = ("mask",),
    images: int,
    rounds: int,
    batch_size: int = 1,
    clock: Clock = time.perf_counter,
) -> list[Rate]:
    """Wall time of the network on images in memory, and of `predict` on their files; the two take turns.

    `predict` reads, segments and writes everything that it always writes, into a folder that is deleted. The files are
    in the system's memory after the first round, which is not counted.

    Args:
        predictor: the network.
        source: what `predict` takes.
        save: kinds of output.
        images: how many, evenly over all.
        rounds: counted rounds.
        batch_size: of `predict`; the network alone gets one image at a time.
        clock: tells seconds.

    Raises:
        ConfigError: nothing there.
    """
    with tempfile.TemporaryDirectory() as folder:
        listing = find_images(source, without=Path(folder), suffixes=predictor.pixels.suffixes)
        step = max(1, len(listing.images) // images)
        files = [(listing.folder / image).resolve() for image in listing.images[::step][:images]]
        names = Path(folder, "images.txt")
        names.write_text("".join(f"{file}\n" for file in files), encoding="utf-8", errors="surrogateescape")
        tensors = [one_image(predictor, file) for file in files]

        def network() -> None:
            for tensor in tensors:
                predictor.whole_scores(tensor)

        def files_to_masks() -> None:
            output = Path(folder, "out")
            predict(predictor, names, output=output, save=save, overwrite=True, batch_size=batch_size)

        ways = {"network alone": waiting(network, predictor.device), f"predict, batch {batch_size}": files_to_masks}
        turns = take_turns(list(ways.values()), rounds, clock)
    return rates(list(ways), turns, len(files), turns.times_longer)


def one_image(predictor: Predictor, file: Path) -> Tensor:
    """An image file as the predictor's network takes it: a batch of one, (1, C, H, W)."""
    return torch.from_numpy(np.stack([predictor.read(file)])).permute(0, 3, 1, 2)


def predict_table(speeds: Sequence[Rate]) -> str:
    """A Markdown table."""
    return rate_table(speeds, ratio="time over network alone")
