"""From a folder of images to a folder of masks: our engines beside a plain loop over SMP's network."""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import BackboneConfig, ModelConfig, RunConfig
from segzoo.data.dataset import build_dataset
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import FileDataset
from segzoo.errors import ConfigError, first_line
from segzoo.inference.engines.agreement import compare
from segzoo.inference.engines.base import Engine, Precision
from segzoo.inference.engines.choose import ENGINES, PRECISIONS, fastest
from segzoo.inference.engines.pytorch import plain_logits
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor, as_batch
from segzoo.models.build import build_segmenter
from segzoo.models.segmenter import Segmenter
from segzoo.models.smp.peer import ENCODER, as_segmenter, peer_network

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
    *,
    rounds: int,
    engines: Sequence[str] = ENGINES,
) -> list[EngineSpeed]:
    """Time all ways from files to masks, taking turns in this process; networks and engines are made before.

    Both networks are DeepLabV3+ with SMP's decoder on Xception-65 at output stride 16, of random weights: timm's
    Xception in SMP, and ours. The plain loop reads with Pillow, computes one image at a time in float32, padded to a
    multiple of 16, and writes a PNG with Pillow. Ours is `predict`, with all that it writes. One round before the
    first is not counted.

    Args:
        files: images, 8-bit RGB.
        config: a run; its data section says how pixels become input.
        rounds: counted rounds.
        engines: those to measure, on the CPU; what is not installed, or has no such precision, is left out.
    """
    labels = LabelSpace.from_names([f"class {index}" for index in range(11)])
    peer = peer_network(labels.num_classes)
    theirs = _trained(as_segmenter(peer), config, labels)
    ours = untrained(_same_architecture(config), labels)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "images.txt")
        names.write_text("".join(f"{file.resolve()}\n" for file in files), encoding="utf-8")
        ways = [_Way(f"SMP, {ENCODER}", _PLAIN, "fp32", lambda output: _plain_loop(peer, files, output, labels))]
        for title, source in ((f"SMP, {ENCODER}", theirs), ("segzoo, xception65", ours)):
            ways += _engine_ways(title, source, names, files[0], engines)
        times = [[_seconds(way, Path(folder, "out")) for way in ways] for _ in range(rounds + 1)][1:]
    return [
        EngineSpeed(
            way.network,
            way.name,
            way.precision,
            images_per_second=round(len(files) / statistics.median(row[index] for row in times), 3),
            ratio=round(statistics.median(row[0] / row[index] for row in times), 2),
            difference=way.difference,
            chosen=way.chosen,
        )
        for index, way in enumerate(ways)
    ]


def engine_table(speeds: Sequence[EngineSpeed]) -> str:
    """A Markdown table."""
    rows = [
        f"| {speed.network} | {speed.way}{' (auto)' if speed.chosen else ''} | {speed.precision} "
        f"| {speed.images_per_second:.2f} | {speed.ratio:.2f} "
        f"| {'' if speed.difference is None else f'{speed.difference:.0e}'} |"
        for speed in speeds
    ]
    head = ["| network | engine | precision | images/s | over plain loop | logits differ by |"]
    return "\n".join([*head, "| --- | --- | --- | ---: | ---: | ---: |", *rows])


def untrained(config: RunConfig, labels: LabelSpace) -> TrainedSegmenter:
    """A configuration's network with random weights, which cost as much as trained ones."""
    segmenter = build_segmenter(config.model, labels.num_classes, in_channels=config.data.channels, pretrained=False)
    return _trained(segmenter.eval(), config, labels)


def images_of(config: RunConfig, images: int) -> list[Path]:
    """The first images of the run's validation split.

    Raises:
        ConfigError: the data set is not read from pairs of files.
    """
    dataset = build_dataset(config.data, config.data.val_split)
    if not isinstance(dataset, FileDataset):
        raise ConfigError(f"data.name: {config.data.name} is not read from files; there is no folder to predict")
    return [pair.image for pair in dataset.pairs[:images]]


def _trained(segmenter: Segmenter, config: RunConfig, labels: LabelSpace) -> TrainedSegmenter:
    return TrainedSegmenter(segmenter, Description(config, labels, metrics={}, step=0), Path("random.ckpt"))


def _same_architecture(config: RunConfig) -> RunConfig:
    model = ModelConfig(decoder="deeplabv3plus_smp", output_stride=16, backbone=BackboneConfig(name="xception65"))
    return config.model_copy(update={"model": model})


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
    images = as_batch(predictor.read(file))
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


def _seconds(way: _Way, output: Path) -> float:
    start = time.perf_counter()
    way.run(output)
    return time.perf_counter() - start
