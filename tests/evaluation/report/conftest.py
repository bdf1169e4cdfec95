"""Evaluations made up for the report: regions of classes, a photograph in roughly their colours, wrong in places."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segzoo.config.load import config_from_tree
from segzoo.data.reading.labels import LabelSpace
from segzoo.evaluation.counts import Interval
from segzoo.evaluation.report import write
from segzoo.evaluation.report.pictures import Example
from segzoo.evaluation.report.plots import write_plots
from segzoo.evaluation.results import Evaluation, ImageScore, Protocol
from segzoo.tasks.confusion import ConfusionMatrix, Scores
from segzoo.tasks.metrics import Measured, metrics_of

Made = tuple[Evaluation, Callable[[int], Example]]


@pytest.fixture(scope="session", autouse=True)
def _without_plots():
    """matplotlib takes most of a report's time, and two tests look at what it draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "write_plots", lambda *_: [])
        yield


@pytest.fixture
def with_plots(monkeypatch):
    monkeypatch.setattr(write, "write_plots", write_plots)


def make_example(index, labels, size, *, noise=False, classes=6):
    """Regions around random points; the last class of the label space is never there."""
    random = np.random.default_rng(index)
    height, width = size
    if noise:
        truth = random.integers(0, labels.num_classes - 1, size, dtype=np.uint8)
        photograph = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        return Example(photograph, truth, np.roll(truth, 1))
    points = random.random((classes, 2)) * size
    kinds = random.integers(0, max(1, labels.num_classes - 1), classes)
    rows, columns = np.mgrid[:height, :width]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    truth = kinds[distance.argmin(-1)].astype(np.uint8)
    shift = 1 + index % 7
    prediction = np.roll(truth, shift, (0, 1))
    prediction[: height // 8, : width // 8] = kinds[-1]
    truth[:, :3] = labels.ignore_index
    colors = np.array(labels.flat_palette()).reshape(256, 3)[truth] * 0.5 + 70
    photograph = np.clip(colors + random.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8)
    return Example(photograph, truth, prediction)


def image_score(index, name, example, labels):
    matrix = labels.coding.count(torch.from_numpy(example.prediction), torch.from_numpy(example.truth))
    scores = Scores.from_matrix(matrix)
    score = ImageScore(index, name, scores.miou, scores.pixel_accuracy, scores.iou, int(matrix.sum()))
    return matrix, score


def measured(matrix, labels, others):
    """What the metrics of a table of counts say, and others whose values are given."""
    metrics = metrics_of("segmentation", labels, asked=["boundary"])
    shown = [metric for metric in metrics if metric.name in others or metric.counter is ConfusionMatrix]
    values = {metric.name: metric.value(matrix, labels) for metric in shown if metric.counter is ConfusionMatrix}
    return Measured(shown, values | others, labels)


@pytest.fixture(scope="session")
def make_evaluation(tmp_path_factory) -> Callable[..., Made]:
    def make(
        images=9,
        num_classes=11,
        size=(60, 80),
        names=None,
        noise=False,
        checkpoint="model.ckpt",
        others=None,
        labels=None,
        **changes,
    ) -> Made:
        names = names or [f"class {index}" for index in range(num_classes)]
        seen, labels = LabelSpace.from_names(names), labels or LabelSpace.from_names(names)
        examples = [make_example(index, seen, size, noise=noise) for index in range(images)]
        kind = "noise" if noise else "scene"
        judged = [image_score(index, f"{kind}_{index:04d}", example, seen) for index, example in enumerate(examples)]
        matrix = sum((matrix for matrix, _ in judged), torch.zeros(len(names), len(names), dtype=torch.int64))
        config = config_from_tree({"data": {"name": "synthetic"}, "trainer": {"max_steps": 10}})
        values = {
            "measured": measured(changes.get("matrix", matrix), labels, others or {}),
            "matrix": matrix,
            "output": tmp_path_factory.mktemp("output"),
            "per_image": tuple(score for _, score in judged),
            "interval": Interval(0.412345, 0.598765, 0.95, 1000),
            "config": config,
            "protocol": Protocol(
                "synthetic",
                "val",
                str(checkpoint),
                "trained",
                16,
                "torch",
                "fp32",
                tta=None,
                tile=None,
                tile_overlap=None,
            ),
            "command": "segzoo evaluate runs/made_up --split val",
        }
        return Evaluation(**{**values, **changes}), examples.__getitem__

    return make


@pytest.fixture(scope="session")
def run_with_metrics(tmp_path_factory) -> Path:
    """A run directory with a metrics.csv of 30 training and 3 validation rows."""
    run_dir = tmp_path_factory.mktemp("run")
    rows = ["step,epoch,split,loss,learning_rate,miou"]
    rows += [f"{step},0,train,{2.0 / step**0.3:.6f},{0.004 * (1 - step / 310):.6f}," for step in range(10, 310, 10)]
    rows += [f"{step},0,val,,,{value}" for step, value in ((100, 0.2), (200, 0.31), (300, 0.3875))]
    (run_dir / "metrics.csv").write_text("\n".join(rows) + "\n310,0,tra")
    (run_dir / "checkpoints").mkdir()
    return run_dir
