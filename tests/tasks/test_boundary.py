"""The boundary scores against a slow reference: one binary mask at a time, erosions step by step, all distances."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.metrics import metrics_of
from segzoo.tasks.metrics.boundary import BoundaryCounts, boundary_scores, count_boundary

CLASSES, IGNORED = 4, 255


def eroded(mask, times):
    """Nothing outside the image: each step keeps the pixels whose eight neighbours are all in the mask."""
    height, width = mask.shape
    for _ in range(times):
        framed = np.zeros((height + 2, width + 2), bool)
        framed[1:-1, 1:-1] = mask
        shifts = [framed[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        mask = np.logical_and.reduce(shifts)
    return mask


def band(mask):
    return mask & ~eroded(mask, max(1, round(0.02 * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2))))


def outline(mask):
    """Pixels of the mask with a neighbour above, below, left or right, inside the image, that is not."""
    points = []
    for y, x in np.argwhere(mask):
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        if any(0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and not mask[v, u] for v, u in near):
            points.append((y, x))
    return np.array(points).reshape(-1, 2)


def f_score(truth, predicted, tolerance):
    if not len(truth) and not len(predicted):
        return None
    if not len(truth) or not len(predicted):
        return 0
    distances = cdist(truth, predicted)
    recall, precision = (distances.min(axis) < tolerance for axis in (1, 0))
    recall, precision = recall.mean(), precision.mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0


def reference(truths, predictions):
    iou, scores = [], []
    for label in range(CLASSES):
        shared = either = 0
        per_image = []
        for truth, predicted in zip(truths, predictions, strict=True):
            masks = truth == label, (predicted == label) & (truth != IGNORED)
            bands = band(masks[0]), band(masks[1])
            shared += (bands[0] & bands[1]).sum()
            either += (bands[0] | bands[1]).sum()
            value = f_score(outline(masks[0]), outline(masks[1]), 0.0075 * math.hypot(*truth.shape))
            per_image += [] if value is None else [value]
        iou.append(shared / either if either else None)
        scores.append(np.mean(per_image) if per_image else None)
    return iou, scores


def scene(generator, size, ignored=True):
    """Overlapping rectangles and discs, some of them ignored."""
    mask = np.zeros(size, np.uint8)
    rows, columns = np.indices(size)
    for _ in range(8):
        label = generator.choice([*range(CLASSES - 1), IGNORED] if ignored else range(CLASSES - 1))
        y, x, extent = generator.integers(size[0]), generator.integers(size[1]), generator.integers(3, size[0] // 2)
        inside = (abs(rows - y) < extent) & (abs(columns - x) < extent / 2)
        if generator.random() < 0.5:
            inside = (rows - y) ** 2 + (columns - x) ** 2 < extent**2
        mask[inside] = label
    return mask


def close(found, expected):
    return [
        value is None if known is None else value == pytest.approx(known)
        for value, known in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize("size", [(60, 80), (40, 41), (160, 200), (9, 7)])
def test_equal_the_slow_reference(size) -> None:
    generator = np.random.default_rng(size)
    truths = [scene(generator, size) for _ in range(4)]
    predictions = []
    for truth in truths:
        predicted = np.roll(np.where(truth == IGNORED, 1, truth), (1, -2), (0, 1))
        predicted[: size[0] // 3] = scene(generator, size, ignored=False)[: size[0] // 3]
        predictions.append(predicted)
    counts = np.stack([count_boundary(t, p, CLASSES, IGNORED) for t, p in zip(truths, predictions, strict=True)])
    scores = boundary_scores(counts)
    iou, f_scores = reference(truths, predictions)
    assert all(close(scores.iou, iou))
    assert all(close(scores.f_score, f_scores))
    assert scores.iou[CLASSES - 1] is None
    counter = BoundaryCounts(LabelSpace.from_names([str(number) for number in range(CLASSES)]))
    for pair in zip(predictions, truths, strict=True):
        counter.update(*(torch.from_numpy(mask)[None] for mask in pair))
    assert counter.compute() == scores
    metrics = metrics_of("segmentation", counter.labels, asked=["boundary"])
    means = {metric.name: metric.value(scores, counter.labels) for metric in metrics if metric.optional}
    assert means["boundary/mean_iou"] == pytest.approx(np.mean([value for value in iou if value is not None]))
    assert means["boundary/mean_f_score"] == pytest.approx(np.mean([value for value in f_scores if value is not None]))


def test_the_limit_itself_is_too_far() -> None:
    """At 480×640 the tolerance is 6 pixels: an outline 5 away is met, one 6 away is not."""
    for shift, expected in ((5, 1), (6, 0)):
        truth, predicted = (np.zeros((480, 640), np.uint8) for _ in range(2))
        truth[200:] = 1
        predicted[200 + shift :] = 1
        assert boundary_scores(count_boundary(truth, predicted, 2, IGNORED)[None]).f_score == (expected, expected)


def test_perfect_and_empty() -> None:
    truth = scene(np.random.default_rng(3), (60, 80))
    scores = boundary_scores(count_boundary(truth, np.where(truth == IGNORED, 3, truth), CLASSES, IGNORED)[None])
    assert set(scores.iou) <= {1, None}
    assert set(scores.f_score) <= {1, None}
    ignored = np.full((30, 30), IGNORED, np.uint8)
    nothing = boundary_scores(count_boundary(ignored, np.zeros_like(ignored), CLASSES, IGNORED)[None])
    assert set(nothing.iou) == set(nothing.f_score) == {None}


def test_the_image_border_is_in_the_band_and_no_outline() -> None:
    whole = np.zeros((100, 100), np.uint8)
    scores = boundary_scores(count_boundary(whole, whole, 2, IGNORED)[None])
    assert scores.iou == (1, None)
    assert scores.f_score == (None, None)
    assert count_boundary(whole, whole, 2, IGNORED)[1, 0] == 100**2 - 94**2  # 3 pixels wide
