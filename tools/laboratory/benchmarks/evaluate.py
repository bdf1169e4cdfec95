"""How much an evaluation takes beyond the forward passes that it is made of."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from laboratory.benchmarks.rates import Rate, rate_table, rates
from laboratory.benchmarks.rounds import Clock, take_turns
from laboratory.benchmarks.subjects import untrained
from segzoo.config.schema import RunConfig
from segzoo.data.dataset import build_dataset
from segzoo.data.items import WholeDataset
from segzoo.data.sample import Sample, SegmentationDataset
from segzoo.evaluation.bench import Bench, build_predictor
from segzoo.evaluation.evaluate import measure
from segzoo.evaluation.evaluator import Job

_NAMES = ("forward passes", "evaluation", "evaluation with --boundary")


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


def measure_evaluation(config: RunConfig, *, images: int, rounds: int, clock: Clock = time.perf_counter) -> list[Rate]:
    """Time the forward passes alone and whole evaluations of the same images, taking turns, in this process.

    The forward passes have their images in memory, one at a time. An evaluation reads images and masks, predicts,
    counts, scores, and writes its files without the report. The network's weights are random, which costs as much. One
    round before the first is not counted.

    Args:
        config: the network and the data; its validation split is read.
        images: at most so many of the split.
        rounds: counted rounds.
        clock: tells seconds.
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
        turns = take_turns(ways, rounds, clock)
    return rates(_NAMES, turns, len(pixels), turns.times_longer)


def evaluation_table(speeds: Sequence[Rate]) -> str:
    """A Markdown table."""
    return rate_table(speeds, ratio="time over forward passes")


def _bench(config: RunConfig, images: int) -> Bench:
    split = config.evaluation.split or config.data.val_split
    dataset = FirstImages(build_dataset(config.data, split), images)
    source = untrained(config, dataset.labels)
    job = Job(source.path, (), split, averaged=True, engine="torch", precision="fp32", boundary=False)
    return Bench(job, config, split, dataset, build_predictor(source, config, job))


def _evaluate(bench: Bench, folder: Path) -> None:
    measure(bench, folder, processes=1, report=False, command=None)
