"""How long segmenting a folder takes, from files to masks, beside the network's own time."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from segzoo.inference.listing import find_images
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor, as_batch


@dataclass(frozen=True)
class PredictSpeed:
    """One way of segmenting the same images, measured.

    Args:
        name: which.
        images_per_second: median over the rounds.
        ratio: median over the rounds of its time over that of the network alone in the same round.
    """

    name: str
    images_per_second: float
    ratio: float


def measure_predict(
    predictor: Predictor,
    source: Path,
    *,
    save: Sequence[str] = ("mask",),
    images: int = 101,
    rounds: int = 3,
    batch_size: int = 1,
) -> list[PredictSpeed]:
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

    Raises:
        ConfigError: nothing there.
    """
    with tempfile.TemporaryDirectory() as folder:
        listing = find_images(source, without=Path(folder), suffixes=predictor.pixels.suffixes)
        step = max(1, len(listing.images) // images)
        files = [(listing.folder / image).resolve() for image in listing.images[::step][:images]]
        names = Path(folder, "images.txt")
        names.write_text("".join(f"{file}\n" for file in files), encoding="utf-8", errors="surrogateescape")
        tensors = [as_batch(predictor.read(file)) for file in files]

        def network() -> None:
            for tensor in tensors:
                predictor.whole_scores(tensor)
            if predictor.device.type == "cuda":
                torch.cuda.synchronize(predictor.device)

        def files_to_masks() -> None:
            output = Path(folder, "out")
            predict(predictor, names, output=output, save=save, overwrite=True, batch_size=batch_size)

        ways = {"network alone": network, f"predict, batch {batch_size}": files_to_masks}
        times = [[_seconds(way) for way in ways.values()] for _ in range(rounds + 1)][1:]
    return [
        PredictSpeed(
            name,
            images_per_second=round(len(files) / statistics.median(row[index] for row in times), 2),
            ratio=round(statistics.median(row[index] / row[0] for row in times), 3),
        )
        for index, name in enumerate(ways)
    ]


def predict_table(speeds: Sequence[PredictSpeed]) -> str:
    """A Markdown table."""
    rows = [f"| {speed.name} | {speed.images_per_second:.2f} | {speed.ratio:.3f} |" for speed in speeds]
    return "\n".join(["| way | images/s | time over network alone |", "| --- | ---: | ---: |", *rows])


def _seconds(way: Callable[[], None]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
