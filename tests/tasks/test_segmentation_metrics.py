import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from segzoo.config.load import config_from_tree
from segzoo.data.datasets import cityscapes, voc
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import ConfusionMatrix, Scores
from segzoo.tasks.metrics import METRICS, metrics_of


def values(matrix: torch.Tensor, labels: LabelSpace | None = None) -> SimpleNamespace:
    """What every metric of a table of counts says of it."""
    labels = labels or LabelSpace.from_names([str(number) for number in range(len(matrix))])
    metrics = [metric for metric in metrics_of("segmentation", labels) if metric.counter is ConfusionMatrix]
    return SimpleNamespace(**{metric.name.replace("/", "_"): metric.value(matrix, labels) for metric in metrics})


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's own script. It imports quaternions, for boxes in space, which pixels do not need."""
    quaternions = ModuleType("pyquaternion")
    quaternions.Quaternion = object
    monkeypatch.setitem(sys.modules, "pyquaternion", quaternions)
    return pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", reason="pip install --no-deps cityscapesScripts"
    )


def test_equals_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 5, 4000), generator.integers(0, 5, 4000)
    matrix = torch.from_numpy(confusion_matrix(truth, predicted))
    scores = values(matrix)
    assert scores.recall == pytest.approx(recall_score(truth, predicted, average=None))
    assert scores.precision == pytest.approx(precision_score(truth, predicted, average=None))
    assert scores.dice == pytest.approx(f1_score(truth, predicted, average=None))
    assert scores.mean_accuracy == pytest.approx(recall_score(truth, predicted, average="macro"))
    assert scores.mean_dice == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores.frequency_weighted_iou == pytest.approx(jaccard_score(truth, predicted, average="weighted"))


def test_what_is_absent_is_not_judged() -> None:
    #        predicted: a  b  c  d
    matrix = torch.tensor([[6, 2, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    scores = values(matrix)
    assert scores.recall == (0.75, None, 0, None)
    assert scores.precision == (0.6, 0, None, None)
    assert scores.dice == (pytest.approx(2 * 6 / 18), 0, 0, None)
    assert scores.mean_accuracy == pytest.approx(0.75 / 2)
    assert scores.mean_dice == pytest.approx(12 / 18 / 3)
    assert scores.frequency_weighted_iou == pytest.approx(6 / 12 * 8 / 12)


def test_nothing_to_judge() -> None:
    scores = values(torch.zeros(3, 3, dtype=torch.int64))
    assert scores.recall == (None, None, None)
    assert (scores.mean_accuracy, scores.mean_dice, scores.frequency_weighted_iou) == (None, None, None)


def test_categories_are_cityscapes_alone() -> None:
    others = LabelSpace.from_names(["road", "cell"])
    assert not any("categories" in metric.name for metric in metrics_of("segmentation", others))
    assert METRICS["segmentation"]["categories/iou"].rows(others) == ()


@pytest.mark.parametrize("kind", ["random", "shifted", "few classes"])
def test_equals_cityscapes_scripts(official: ModuleType, shared: Path, tmp_path: Path, kind: str) -> None:
    """On the files that the script takes, without instance scores."""
    masks = sorted((shared / "data" / "cityscapes" / "gtFine").glob("*/*/*_gtFine_labelIds.png"))
    generator = np.random.default_rng(1)
    matrix = torch.zeros(19, 19, dtype=torch.int64)
    written = []
    for path in masks:
        raw = np.array(Image.open(path))
        predicted = _predictions(raw, kind, generator)
        ids = np.array([official.trainId2label[index].id for index in range(19)], np.uint8)[predicted]
        written.append(tmp_path / path.name)
        Image.fromarray(ids).save(written[-1])
        truth = torch.from_numpy(cityscapes.LABELS.encode(raw))
        matrix += cityscapes.LABELS.coding.count(torch.from_numpy(predicted), truth)
    official.args.evalInstLevelScore, official.args.JSONOutput, official.args.quiet = False, False, True
    expected = official.evaluateImgLists(list(map(str, written)), list(map(str, masks)), official.args)

    scores, found = Scores.from_matrix(matrix), values(matrix, cityscapes.LABELS)
    categories = METRICS["segmentation"]["categories/iou"].rows(cityscapes.LABELS)
    for name, value in zip(cityscapes.LABELS.names, scores.iou, strict=True):
        assert value == _or_none(expected["classScores"][name]), name
    assert set(categories) == set(expected["categoryScores"]) - {"void"}
    for name, value in zip(categories, found.categories_iou, strict=True):
        assert value == _or_none(expected["categoryScores"][name]), name
    assert scores.miou == expected["averageScoreClasses"]
    assert found.categories_miou == pytest.approx(
        expected["averageScoreCategories"], rel=1e-15
    )  # added in another order


def test_equals_scikit_learn_on_voc(shared: Path) -> None:
    root = shared / "data" / "VOCdevkit"
    dataset = build_dataset(
        config_from_tree({"data": {"name": "voc", "root": str(root)}, "trainer": {"max_steps": 1}}).data, "val"
    )
    truths = [dataset[index].mask for index in range(len(dataset))]
    predictions = [np.where(truth == 255, 0, np.roll(truth, 9, axis=1)) % 21 for truth in truths]
    count = voc.LABELS.coding.count
    matrix = sum(count(torch.tensor(p), torch.tensor(t)) for p, t in zip(predictions, truths, strict=True))
    truth, predicted = (np.concatenate([mask.ravel() for mask in masks]) for masks in (truths, predictions))
    kept = truth != voc.LABELS.ignore_index
    truth, predicted = truth[kept], predicted[kept]

    scores = Scores.from_matrix(matrix)
    present = [label for label, value in enumerate(scores.iou) if value is not None]
    assert present == np.union1d(truth, predicted).tolist()
    expected = jaccard_score(truth, predicted, labels=present, average=None)
    assert [scores.iou[label] for label in present] == expected.tolist()
    assert scores.miou == pytest.approx(expected.mean(), rel=1e-15)
    assert scores.pixel_accuracy == accuracy_score(truth, predicted)


def _predictions(raw: np.ndarray, kind: str, generator: np.random.Generator) -> np.ndarray:
    if kind == "random":
        return generator.integers(0, 19, raw.shape, dtype=np.uint8)
    truth = cityscapes.LABELS.encode(raw)
    shifted = np.roll(truth, (13, -20), (0, 1))
    return np.where(shifted == 255, 2, shifted) if kind == "shifted" else np.minimum(shifted, 3)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
