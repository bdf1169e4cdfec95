"""From a folder of images to a folder of masks: our engines beside a plain loop over SMP's network."""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from laboratory.benchmarks.harness import Clock, Prepared, Row, measure_ways
from laboratory.benchmarks.subjects import Subject, as_trained, numbered_labels
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import RunConfig
from segzoo.data.datasets.listing import FileDataset
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, first_line
from segzoo.inference.engines import fastest, plain_logits
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.models.agreement import PRECISIONS, compare

_logger = logging.getLogger(__name__)

_STRIDE = 16


def measure_engines(
    files: Sequence[Path],
    config: RunConfig,
    baseline: Subject,
    ours: Subject,
    *,
    rounds: int,
    engines: Sequence[str],
    clock: Clock = time.perf_counter,
) -> list[Row]:
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
    network, labels, count = baseline.network(), numbered_labels(config), len(files)
    with tempfile.TemporaryDirectory() as folder:
        names, output = Path(folder, "images.txt"), Path(folder, "out")
        names.write_text("".join(f"{file.resolve()}\n" for file in files), encoding="utf-8")
        plain = partial(_plain_loop, network, files, output, labels)
        ways = [Prepared("plain loop", plain, count, baseline.title, "fp32")]
        for subject in (baseline, ours):
            source = as_trained(subject.network(), config, labels)
            for predictor, chosen in _predictors(source, engines):
                run = partial(predict, predictor, names, output=output, overwrite=True)
                name, precision = predictor.engine.name, predictor.engine.precision
                way = f"{name}{' (auto)' if chosen else ''}"
                ways.append(Prepared(way, run, count, subject.title, precision, _difference(predictor, files[0])))
        return measure_ways(ways, rounds, clock)


def images_of(config: RunConfig, images: int) -> list[Path]:
    """The first images of the run's validation split.

    Raises:
        ConfigError: the data set is not read from pairs of files.
    """
    dataset = build_dataset(config.data, config.data.val_split)
    if not isinstance(dataset, FileDataset):
        raise ConfigError(f"data.name: {config.data.name} is not read from files; there is no folder to predict")
    return [pair.image for pair in dataset.pairs[:images]]


def _predictors(source: TrainedSegmenter, engines: Sequence[str]) -> Iterator[tuple[Predictor, bool]]:
    """What is installed and has the precision; and whether `--engine auto` takes it, of those that are measured."""
    for precision in PRECISIONS:
        found = []
        for name in engines:
            try:
                found.append(Predictor(source, "cpu", engine=name, precision=precision))
            except ConfigError as error:
                _logger.info("not measured: %s", first_line(error))
        chosen = fastest(source, [predictor.engine for predictor in found]) if found else None
        yield from ((predictor, predictor.engine is chosen) for predictor in found)


def _difference(predictor: Predictor, file: Path) -> float | None:
    """Of one image's logits; random weights tell nothing of classes."""
    engine = predictor.engine
    images = torch.tensor(predictor.read(file)[None]).permute(0, 3, 1, 2)
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
