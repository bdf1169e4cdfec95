"""Scores of classifiers against scikit-learn, torchmetrics, and a slow reference."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_average_precision, multilabel_average_precision

from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.metrics.classification import (
    ClassificationMetrics,
    average_precision,
    classification_scores,
    map_at_100,
)


def made_up(images, classes, *, multi_label, levels=None, seed=0):
    """Logits that know something of the truth; with `levels`, many of them are equal."""
    generator = torch.Generator().manual_seed(seed)
    if multi_label:
        target = (torch.rand(images, classes, generator=generator) < 0.2).float()
        truth = target
    else:
        target = torch.randint(classes, (images,), generator=generator)
        truth = torch.nn.functional.one_hot(target, classes).float()
    logits = 1.5 * truth + torch.randn(images, classes, generator=generator)
    return (logits * levels).round() / levels if levels else logits, target


def labels_of(classes, multi_label=False):
    return LabelSpace.of_images([f"class {k}" for k in range(classes)], multi_label=multi_label)


def scores_of(logits, target, weights=None):
    return classification_scores(logits, target, labels_of(logits.shape[1], target.dim() == 2), weights)


@pytest.mark.parametrize("classes", [6, 30])
def test_one_class_an_image_against_scikit_learn_and_torchmetrics(classes):
    logits, target = made_up(200, classes, multi_label=False)
    found = scores_of(logits, target)
    chances = logits.double().softmax(1)
    names = list(range(classes))
    for key, k in (("top1", 1), ("top5", 5)):
        assert found[key] == pytest.approx(sklearn_metrics.top_k_accuracy_score(target, logits, k=k, labels=names))
    expected = [sklearn_metrics.average_precision_score(target == k, chances[:, k]) for k in names]
    assert found["ap"] == pytest.approx(expected)
    assert found["map"] == pytest.approx(np.mean(expected))
    theirs = multiclass_average_precision(chances, target, classes, average="macro", thresholds=None)
    assert found["map"] == pytest.approx(float(theirs), abs=1e-5)
    matrix = sklearn_metrics.confusion_matrix(target, logits.argmax(1), labels=names)
    assert np.array_equal(found["confusion_matrix"], matrix)


def test_several_classes_an_image_against_scikit_learn_and_torchmetrics():
    logits, target = made_up(200, 12, multi_label=True)
    found = scores_of(logits, target)
    expected = [sklearn_metrics.average_precision_score(target[:, k], logits[:, k]) for k in range(12)]
    assert found["ap"] == pytest.approx(expected)
    theirs = multilabel_average_precision(logits, target.long(), 12, average="macro", thresholds=None)
    assert found["map"] == pytest.approx(float(theirs), abs=1e-5)
    matrix = sklearn_metrics.multilabel_confusion_matrix(target, logits > 0)
    assert np.array_equal(found["confusion_matrix"], matrix)
    judged = target.any(1)
    first = target.gather(1, logits.argmax(1, keepdim=True))[judged]
    assert int((~judged).sum()) > 0
    assert found["top1"] == pytest.approx(float(first.mean()))


def test_equal_scores_share_a_threshold_as_in_scikit_learn():
    logits, target = made_up(300, 7, multi_label=True, levels=2)
    expected = [sklearn_metrics.average_precision_score(target[:, k], logits[:, k]) for k in range(7)]
    assert scores_of(logits, target)["ap"] == pytest.approx(expected)


def test_large_logits_are_told_apart():
    """In float32 the sigmoid of both is 1."""
    scores, truth = torch.tensor([[30.0], [40.0], [-1.0]]), torch.tensor([[0.0], [1.0], [0.0]])
    assert scores_of(scores, truth)["map"] == 1


def slow_map_at_100(logits, truth, weights=None):
    """By the definition, in whole numbers and fractions, one image after the other."""
    contributions = {}
    for scores, true in zip(logits.tolist(), truth.tolist(), strict=True):
        ranked = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
        for k in range(len(scores)):
            if not true[k]:
                continue
            rank = ranked.index(k) + 1
            hits = sum(1 for other in ranked[:rank] if true[other])
            contributions.setdefault(k, []).append(Fraction(hits, rank) if rank <= 100 else Fraction(0))
    total = sum((Fraction(weights[k]) if weights else len(found)) for k, found in contributions.items())
    summed = sum(
        (Fraction(weights[k]) if weights else len(found)) * sum(found) / len(found)
        for k, found in contributions.items()
    )
    return float(summed / total) if total else None


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("images", "classes"), [(25, 9), (20, 100), (12, 170)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_map_at_100_against_a_slow_reference(images, classes, weighted, levels, multi_label):
    logits, target = made_up(images, classes, multi_label=multi_label, levels=levels)
    truth = target if multi_label else torch.nn.functional.one_hot(target, classes)
    weights = [1 + k % 7 / 2 for k in range(classes)] if weighted else None
    expected = slow_map_at_100(logits, truth, weights)
    assert map_at_100(logits, target, weights) == pytest.approx(expected, abs=1e-12)
    assert scores_of(logits, target, weights)["map_at_100"] == pytest.approx(expected, abs=1e-12)


def test_map_at_100_where_it_can_be_told_by_hand():
    # Ranks 1 and 3 of the first image are true: precisions 1 and 2/3. The second image's only class has rank 2.
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    target = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0]])
    assert map_at_100(logits, target) == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert map_at_100(logits, target, [1, 3, 0, 5]) == pytest.approx((1 * 1 + 3 * 1 / 2) / 4)
    # Rank 100 counts, rank 101 does not.
    falling = -torch.arange(150.0)[None]
    assert map_at_100(falling, torch.tensor([99])) == pytest.approx(1 / 100)
    assert map_at_100(falling, torch.tensor([100])) == 0


def same(first, second):
    assert first.keys() == second.keys()
    assert torch.equal(first["confusion_matrix"], second["confusion_matrix"])
    for key in first.keys() - {"confusion_matrix"}:
        assert first[key] == second[key], key  # to the last bit


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("levels", [None, 2])
def test_order_and_batches_change_nothing(multi_label, levels):
    logits, target = made_up(150, 11, multi_label=multi_label, levels=levels)
    expected = scores_of(logits, target)
    for seed, size in enumerate((1, 7, 64, 150)):
        order = torch.randperm(150, generator=torch.Generator().manual_seed(seed))
        metric = ClassificationMetrics(labels_of(11, multi_label))
        for part in order.split(size):
            metric.update(logits[part], target[part])
        same(metric.compute(), expected)
    metric.reset()
    metric.update(logits[:9], target[:9])
    same(metric.compute(), scores_of(logits[:9], target[:9]))


def gathered(folder, rank, images, multi_label):
    """One of three processes, of which the last sees no image where there are two."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting_{images}_{multi_label}", rank=rank, world_size=3
    )
    logits, target = made_up(images, 6, multi_label=multi_label)
    metric = ClassificationMetrics(labels_of(6, multi_label))
    for index in range(rank, images, 3):
        metric.update(logits[index : index + 1], target[index : index + 1])
    same(metric.compute(), scores_of(logits, target))
    torch.distributed.destroy_process_group()


def in_processes(rank, folder):
    torch.set_num_threads(1)  # OpenMP's pool does not survive a fork
    for images in (2, 20):
        for multi_label in (False, True):
            gathered(folder, rank, images, multi_label)


def test_processes_change_nothing(tmp_path):
    torch.multiprocessing.start_processes(in_processes, (str(tmp_path),), nprocs=3, start_method="fork")


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_what_is_not_there_is_not_judged():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    found = scores_of(logits, torch.tensor([0, 0]))
    assert (found["top1"], found["top5"]) == (0.5, None)  # of three classes, all are among the five highest
    assert found["ap"] == (1.0, None, None)
    assert found["map"] == 1.0
    nothing = scores_of(logits, torch.zeros(2, 3))
    assert (nothing["top1"], nothing["map"], nothing["map_at_100"]) == (None, None, None)
    empty = ClassificationMetrics(labels_of(8)).compute()
    assert (empty["top1"], empty["top5"], empty["map"], empty["map_at_100"]) == (None, None, None, None)
    assert average_precision(np.array([1.0]), np.array([False])) is None


def test_of_equal_scores_the_first_class_is_the_higher():
    logits = torch.zeros(3, 7)
    found = scores_of(logits, torch.tensor([0, 4, 5]))
    assert found["top1"] == pytest.approx(1 / 3)
    assert found["top5"] == pytest.approx(2 / 3)
    assert found["confusion_matrix"][:, 0].tolist() == [1, 0, 0, 0, 1, 1, 0]


def test_more_than_255_classes_all_count():
    """255 is the value of ignored pixels in masks, and a class like others here."""
    target = torch.arange(300)
    found = scores_of(10 * torch.eye(300), target)
    assert found["top1"] == found["map"] == found["map_at_100"] == 1
    assert int(found["confusion_matrix"].diagonal().sum()) == 300


@pytest.mark.parametrize(("logits", "target"), [((2, 3), (3,)), ((2, 4), (2,)), ((2, 3), (2, 3)), ((3,), (1,))])
def test_other_shapes_are_refused(logits, target):
    with pytest.raises(ValueError, match="do not fit"):
        ClassificationMetrics(labels_of(3)).update(torch.zeros(logits), torch.zeros(target))
    with pytest.raises(ValueError, match="2 weights for 3 classes"):
        map_at_100(torch.zeros(1, 3), torch.tensor([0]), [1, 2])
