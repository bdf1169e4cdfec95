"""How much an evaluation takes beyond the forward passes that it is made of."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import RunConfig
from segzoo.data.dataset import SegmentationDataset, build_dataset
from segzoo.data.items import WholeDataset
from segzoo.data.sample import Sample
from segzoo.evaluation.evaluate import measure
from segzoo.evaluation.measure import Bench, Job, build_predictor
from segzoo.models.build import build_segmenter
from segzoo.models.evaluation import evaluation_config

_NAMES = ("forward passes", "evaluation", "evaluation with --boundary")


@dataclass(frozen=True)
class EvaluationSpeed:
    """One way, measured.

    Args:
        name: which.
        images_per_second: median over the rounds.
        ratio: median over the rounds of its time over that of the forward passes in the same round.
    """

    name: str
    images_per_second: float
    ratio: float


class FirstImages:
    """The first images of a data set.

    Args:
        dataset: all of them.
        count: how many.
    """

    def __init__(self, dataset: SegmentationDataset, count: int) -> None:
        self._dataset = dataset
        self.labels = dataset.labels
        self.ids = tuple(dataset.ids[:count])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[range(len(self))[index]]


def measure_evaluation(config: RunConfig, *, images: int, rounds: int) -> list[EvaluationSpeed]:
    """Time the forward passes alone and whole evaluations of the same images, taking turns, in this process.

    The forward passes have their images in memory, one at a time. An evaluation reads images and masks, predicts,
    counts, scores, and writes its files without the report. The network's weights are random, which costs as much. One
    round before the first is not counted.

    Args:
        config: the network and the data; its validation split is read.
        images: at most so many of the split.
        rounds: counted rounds.
    """
    bench = _bench(config, images)
    samples = WholeDataset(bench.dataset)
    pixels = [samples[index]["image"][None] for index in range(len(bench.dataset))]

    def forward() -> None:
        for image in pixels:
            bench.predictor.logits(image).flatten()[0].item()  # waits until it is computed

    with tempfile.TemporaryDirectory() as folder:
        benches = (bench, replace(bench, job=replace(bench.job, boundary=True)))
        ways = [forward, *(lambda one=one: _evaluate(one, Path(folder)) for one in benches)]
        times = [[_seconds(way) for way in ways] for _ in range(rounds + 1)][1:]
    return [
        EvaluationSpeed(
            name,
            images_per_second=round(len(pixels) / statistics.median(row[index] for row in times), 3),
            ratio=round(statistics.median(row[index] / row[0] for row in times), 4),
        )
        for index, name in enumerate(_NAMES)
    ]


def evaluation_table(speeds: Sequence[EvaluationSpeed]) -> str:
    """A Markdown table."""
    rows = [f"| {speed.name} | {speed.images_per_second:.2f} | {speed.ratio:.3f} |" for speed in speeds]
    return "\n".join(["| | images/s | time over forward passes |", "| --- | ---: | ---: |", *rows])


def _bench(config: RunConfig, images: int) -> Bench:
    split = config.evaluation.split or config.data.val_split
    dataset = FirstImages(build_dataset(config.data, split), images)
    segmenter = build_segmenter(
        evaluation_config(config.model), dataset.labels.num_classes, in_channels=config.data.channels, pretrained=False
    )
    description = Description(config, dataset.labels, metrics={}, step=0)
    source = TrainedSegmenter(segmenter.eval(), description, Path("random.ckpt"))
    job = Job(source.path, (), split, averaged=True, engine="torch", precision="fp32", boundary=False)
    return Bench(job, config, split, dataset, build_predictor(source, config, job))


def _evaluate(bench: Bench, folder: Path) -> None:
    measure(bench, folder, processes=1, report=False, command=None)


def _seconds(way: Callable[[], None]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
