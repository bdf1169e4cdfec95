"""How long segmenting a folder takes, from files to masks, beside the network's own time."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.benchmarks.machine import waiting
from segzoo.benchmarks.report import Column, markdown_table
from segzoo.benchmarks.rounds import Clock, take_turns
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
    images: int,
    rounds: int,
    batch_size: int = 1,
    clock: Clock = time.perf_counter,
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
        tensors = [as_batch(predictor.read(file)) for file in files]

        def network() -> None:
            for tensor in tensors:
                predictor.whole_scores(tensor)

        def files_to_masks() -> None:
            output = Path(folder, "out")
            predict(predictor, names, output=output, save=save, overwrite=True, batch_size=batch_size)

        ways = {"network alone": waiting(network, predictor.device), f"predict, batch {batch_size}": files_to_masks}
        turns = take_turns(list(ways.values()), rounds, clock)
    return [
        PredictSpeed(
            name,
            images_per_second=round(len(files) / turns.seconds(index), 2),
            ratio=round(turns.times_longer(index), 3),
        )
        for index, name in enumerate(ways)
    ]


def predict_table(speeds: Sequence[PredictSpeed]) -> str:
    """A Markdown table."""
    columns: list[Column[PredictSpeed]] = [
        Column("way", lambda speed: speed.name, words=True),
        Column("images/s", lambda speed: f"{speed.images_per_second:.2f}"),
        Column("time over network alone", lambda speed: f"{speed.ratio:.3f}"),
    ]
    return markdown_table(columns, speeds)
