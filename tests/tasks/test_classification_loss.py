"""What a classifier minimises, against torch and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segzoo.config.classification import ClassificationLossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.tasks.classification import ImageLoss

NAMES = ("cat", "dog", "cow")
WEIGHTS = (1.0, 0.5, 3.0)


def loss_of(*, multi_label=False, **options):
    return ImageLoss(ClassificationLossConfig(**options), LabelSpace.of_images(NAMES, multi_label=multi_label))


@pytest.fixture
def logits():
    return torch.randn(6, 3, dtype=torch.float64).float() * 3


@pytest.fixture
def target():
    return torch.tensor([0, 2, 1, 1, 0, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_torchs_and_the_closed_form(logits, target, smoothing):
    found = loss_of(label_smoothing=smoothing)(logits, target)
    torch.testing.assert_close(found, torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, target))
    scores = logits.double().numpy()
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    q = np.full((6, 3), smoothing / 3)
    q[np.arange(6), target.numpy()] += 1 - smoothing
    assert found.item() == pytest.approx(-(q * log_p).sum(1).mean(), rel=1e-6)


def test_class_weights_are_torchs(logits, target):
    expected = F.cross_entropy(logits, target, weight=torch.tensor(WEIGHTS))
    torch.testing.assert_close(loss_of(class_weights=WEIGHTS)(logits, target), expected)
    assert loss_of(class_weights=WEIGHTS).loss_weight(target).item() == sum(WEIGHTS[k] for k in target.tolist())


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": WEIGHTS}])
def test_blended_images_lie_between(logits, target, options):
    """A blend of one class with itself is that class, and the loss is linear in the target."""
    loss = loss_of(**options)
    pure = F.one_hot(target, 3).float()
    torch.testing.assert_close(loss(logits, pure), loss(logits, target))
    torch.testing.assert_close(loss.loss_weight(pure), loss.loss_weight(target))
    if "class_weights" not in options:
        other = pure.roll(1, 0)
        mixed = loss(logits, 0.3 * pure + 0.7 * other)
        torch.testing.assert_close(mixed, 0.3 * loss(logits, pure) + 0.7 * loss(logits, other))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_several_classes_an_image(logits, smoothing, weights):
    present = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]).float()
    found = loss_of(multi_label=True, label_smoothing=smoothing, class_weights=weights)(logits, present)
    total = 0.0
    for row, truth in zip(logits.double().tolist(), present.tolist(), strict=True):
        for k, (score, yes) in enumerate(zip(row, truth, strict=True)):
            p, q = 1 / (1 + math.exp(-score)), yes * (1 - smoothing) + smoothing / 2
            total -= (weights or (1, 1, 1))[k] * (q * math.log(p) + (1 - q) * math.log(1 - p))
    assert found.item() == pytest.approx(total / 6 / sum(weights or (1, 1, 1)), rel=1e-5)
    if smoothing == 0 and weights is None:
        torch.testing.assert_close(found, torch.nn.BCEWithLogitsLoss()(logits, present))


@pytest.mark.parametrize("multi_label", [False, True])
def test_parts_by_their_share_are_the_whole(logits, target, multi_label):
    loss = loss_of(class_weights=WEIGHTS, label_smoothing=0.1, multi_label=multi_label)
    truth = F.one_hot(target, 3).float() if multi_label else target
    parts = [(loss(logits[part], truth[part]), loss.loss_weight(truth[part])) for part in (slice(0, 2), slice(2, 6))]
    whole = sum(value * share for value, share in parts) / sum(share for _, share in parts)
    torch.testing.assert_close(loss(logits, truth), whole)


def test_half_precision_scores_count_in_float32(logits, target):
    assert loss_of()(logits.bfloat16(), target).dtype == torch.float32


def test_another_number_of_weights_is_refused():
    with pytest.raises(ConfigError, match=r"^loss.class_weights: 2 weights for 3 classes\. .*cat, dog, cow\.$"):
        loss_of(class_weights=(1.0, 2.0))


@pytest.mark.parametrize("multi_label", [False, True])
def test_autocast_leaves_the_loss_alone(logits, multi_label):
    loss = loss_of(class_weights=(1.003, 0.5007, 3.01), multi_label=multi_label)
    target = torch.rand(len(logits), 3)
    expected = loss(logits, target), loss.loss_weight(target)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, target), loss.loss_weight(target)
    torch.testing.assert_close(found, expected)
