"""From a folder of images to a folder of masks: our engines beside a plain loop over SMP's network."""

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from laboratory.benchmarks.predict import one_image
from laboratory.benchmarks.rounds import Clock, take_turns
from laboratory.benchmarks.subjects import Subject, as_trained, numbered_labels
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import RunConfig
from segzoo.data.dataset import build_dataset
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import FileDataset
from segzoo.errors import ConfigError, first_line
from segzoo.inference.engines.agreement import compare
from segzoo.inference.engines.base import Engine, Precision
from segzoo.inference.engines.choose import PRECISIONS, fastest
from segzoo.inference.engines.pytorch import plain_logits
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.markdown import Column, markdown_table

_logger = logging.getLogger(__name__)

_STRIDE = 16
_PLAIN = "plain loop"


@dataclass(frozen=True)
class EngineSpeed:
    """One way of segmenting a folder, measured.

    Args:
        network: SMP's, or ours of the same architecture.
        way: the plain loop, or which engine.
        precision: fp32 or bf16.
        images_per_second: median over the rounds.
        ratio: median over the rounds of its rate over that of the plain loop in the same round.
        difference: largest difference of one image's logits from the network computed plainly, as a share of their
            range; None: it is computed plainly. Random weights tell nothing of classes.
        chosen: whether `--engine auto` takes it, of those that are measured.
    """

    network: str
    way: str
    precision: Precision
    images_per_second: float
    ratio: float
    difference: float | None
    chosen: bool


@dataclass(frozen=True)
class _Way:
    network: str
    name: str
    precision: Precision
    run: Callable[[Path], None]
    difference: float | None = None
    chosen: bool = False


def measure_engines(
    files: Sequence[Path],
    config: RunConfig,
    baseline: Subject,
    ours: Subject,
    *,
    rounds: int,
    engines: Sequence[str],
    clock: Clock = time.perf_counter,
) -> list[EngineSpeed]:
    """Time all ways from files to masks, taking turns in this process; networks and engines are made before.

    The plain loop reads with Pillow, computes the baseline one image at a time in float32, padded to a multiple of 16,
    and writes a PNG with Pillow. Ours is `predict`, with all that it writes. One round before the first is not counted.

    Args:
        files: images, 8-bit RGB.
        config: a run; its data section says how pixels become input.
        baseline: SMP's network.
        ours: our network of the same architecture.
        rounds: counted rounds.
        engines: those to measure, on the CPU; what is not installed, or has no such precision, is left out.
        clock: tells seconds.
    """
    network, labels = baseline.network(), numbered_labels(config)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "images.txt")
        names.write_text("".join(f"{file.resolve()}\n" for file in files), encoding="utf-8")
        ways = [_Way(baseline.title, _PLAIN, "fp32", lambda output: _plain_loop(network, files, output, labels))]
        for subject in (baseline, ours):
            source = as_trained(subject.network(), config, labels)
            ways += _engine_ways(subject.title, source, names, files[0], engines)
        output = Path(folder, "out")
        turns = take_turns([partial(way.run, output) for way in ways], rounds, clock)
    return [
        EngineSpeed(
            way.network,
            way.name,
            way.precision,
            images_per_second=round(len(files) / turns.seconds(index), 3),
            ratio=round(turns.times_faster(index), 2),
            difference=way.difference,
            chosen=way.chosen,
        )
        for index, way in enumerate(ways)
    ]


def engine_table(speeds: Sequence[EngineSpeed]) -> str:
    """A Markdown table."""
    columns: list[Column[EngineSpeed]] = [
        Column("network", lambda speed: speed.network, words=True),
        Column("engine", lambda speed: f"{speed.way}{' (auto)' if speed.chosen else ''}", words=True),
        Column("precision", lambda speed: speed.precision, words=True),
        Column("images/s", lambda speed: f"{speed.images_per_second:.2f}"),
        Column("over plain loop", lambda speed: f"{speed.ratio:.2f}"),
        Column("logits differ by", lambda speed: "" if speed.difference is None else f"{speed.difference:.0e}"),
    ]
    return markdown_table(columns, speeds)


def images_of(config: RunConfig, images: int) -> list[Path]:
    """The first images of the run's validation split.

    Raises:
        ConfigError: the data set is not read from pairs of files.
    """
    dataset = build_dataset(config.data, config.data.val_split)
    if not isinstance(dataset, FileDataset):
        raise ConfigError(f"data.name: {config.data.name} is not read from files; there is no folder to predict")
    return [pair.image for pair in dataset.pairs[:images]]


def _engine_ways(title: str, source: TrainedSegmenter, names: Path, probe: Path, engines: Sequence[str]) -> list[_Way]:
    ways = []
    for precision in PRECISIONS:
        predictors = [made for name in engines if (made := _attempt(source, name, precision)) is not None]
        if not predictors:
            continue
        chosen = fastest(source, [predictor.engine for predictor in predictors])
        for predictor in predictors:
            name, difference = predictor.engine.name, _difference(predictor, probe)
            run = _predicting(predictor, names)
            ways.append(_Way(title, name, precision, run, difference, chosen=predictor.engine is chosen))
    return ways


def _attempt(source: TrainedSegmenter, name: str, precision: Precision) -> Predictor | None:
    """None where it is not installed, or has no such precision."""
    try:
        return Predictor(source, "cpu", engine=name, precision=precision)
    except ConfigError as error:
        _logger.info("not measured: %s", first_line(error))
        return None


def _predicting(predictor: Predictor, names: Path) -> Callable[[Path], None]:
    def run(output: Path) -> None:
        predict(predictor, names, output=output, overwrite=True)

    return run


def _difference(predictor: Predictor, file: Path) -> float | None:
    engine: Engine = predictor.engine
    images = one_image(predictor, file)
    return compare(plain_logits(predictor.source, images), engine(images), engine.precision).difference


@torch.inference_mode()
def _plain_loop(network: nn.Module, files: Sequence[Path], output: Path, labels: LabelSpace) -> None:
    """What one writes with Pillow, NumPy and SMP in a few lines."""
    output.mkdir(parents=True, exist_ok=True)
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 127.5 - 1
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % _STRIDE, 0, -height % _STRIDE))
        classes = network(padded)[0, :, :height, :width].argmax(0)
        mask = Image.fromarray(classes.to(torch.uint8).numpy(), mode="P")
        mask.putpalette(labels.flat_palette())
        mask.save(output / f"{file.stem}.png")
