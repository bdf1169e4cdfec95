"""Dice and Lovász against NumPy written from the formulas, and SMP."""

import itertools

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from segzoo.config.schema import LossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.losses import build_loss
from segzoo.tasks.losses.overlap import jaccard_steps


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def pixels_of(logits, target):
    kept = target.numpy().reshape(-1) != 255
    scores = logits.numpy().astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
    return scores[kept], target.numpy().reshape(-1)[kept]


def jaccard_loss(own, wrong):
    """1 - IoU of a class where a set of pixels is wrong."""
    return len(wrong) / len(set(np.flatnonzero(own)) | set(wrong))


def lovasz_extension(errors, own):
    """Definition 2 of the paper: errors, the largest first, times what each adds to the loss of the set before it."""
    order = [int(index) for index in np.argsort(-errors)]
    sets = [order[:number] for number in range(len(order) + 1)]
    added = [jaccard_loss(own, after) - jaccard_loss(own, before) for before, after in itertools.pairwise(sets)]
    return float(np.dot(errors[order], added))


def lovasz_softmax(scores, truth):
    probability = softmax(scores)
    return np.mean([lovasz_extension(abs((truth == k) - probability[:, k]), truth == k) for k in np.unique(truth)])


def lovasz_hinge(scores, truth):
    signs = 2.0 * (truth[:, None] == np.arange(scores.shape[1])) - 1
    errors = np.maximum(0, 1 - signs * scores)
    return np.mean([lovasz_extension(errors[:, k], truth == k) for k in np.unique(truth)])


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
def test_dice_in_numpy_over_the_classes_in_the_truth(mode, smooth, make_loss, batch):
    scores, truth = pixels_of(*batch)
    probability = softmax(scores) if mode == "softmax" else 1 / (1 + np.exp(-scores))
    losses = []
    for k in (0, 2, 3, 4):  # the truth lacks class 1
        overlap = probability[truth == k, k].sum()
        losses.append(1 - (2 * overlap + smooth) / (probability[:, k].sum() + (truth == k).sum() + smooth))
    value = make_loss(name="dice", dice={"mode": mode, "smooth": smooth})(*batch)
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_equals_smp_but_for_absent_classes(smooth, make_loss, batch):
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=255, smooth=smooth / 2)(*batch)
    ours = make_loss(name="dice", dice={"smooth": smooth})(*batch)
    torch.testing.assert_close(ours, theirs * 5 / 4)  # SMP counts an absent class as a loss of 0


def test_a_perfect_prediction_costs_nothing(make_loss, batch):
    target = batch[1]
    logits = 40 * torch.nn.functional.one_hot(target.where(target != 255, 0), 5).movedim(-1, 1).float() - 20
    for name in ("dice", "lovasz"):
        assert make_loss(name=name)(logits, target) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("mode", "reference"), [("softmax", lovasz_softmax), ("hinge", lovasz_hinge)])
def test_lovasz_is_the_extension_of_the_jaccard_loss(mode, reference, make_loss, batch):
    value = make_loss(name="lovasz", lovasz={"mode": mode})(*batch)
    np.testing.assert_allclose(value, reference(*pixels_of(*batch)), rtol=1e-5)


@pytest.mark.parametrize(("mode", "reference"), [("softmax", lovasz_softmax), ("hinge", lovasz_hinge)])
def test_lovasz_per_image_leaves_empty_images_out(mode, reference, make_loss, batch):
    loss, (logits, target) = make_loss(name="lovasz", lovasz={"mode": mode, "per_image": True}), batch
    each = [reference(*pixels_of(logits[i : i + 1], target[i : i + 1])) for i in range(2)]
    np.testing.assert_allclose(loss(logits, target), np.mean(each), rtol=1e-5)
    target[0] = 255
    np.testing.assert_allclose(loss(logits, target), each[1], rtol=1e-5)


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_equals_smp(per_image, make_loss, batch):
    ours = make_loss(name="lovasz", lovasz={"per_image": per_image})
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=255, per_image=per_image)
    torch.testing.assert_close(ours(*batch), theirs(*batch))


def test_lovasz_hinge_equals_smp_for_a_symmetric_pair(batch):
    """Two classes with opposite logits: the foreground's term is the binary hinge."""
    labels = LabelSpace.from_names(["background", "thing"])
    loss = build_loss(LossConfig.model_validate({"name": "lovasz", "lovasz": {"mode": "hinge"}}), labels)
    score, target = batch[0][:, 0], batch[1].where(batch[1] == 255, batch[1] % 2)
    theirs = smp.losses.LovaszLoss("binary", ignore_index=255)
    mirrored = target.where(target == 255, 1 - target)
    expected = (theirs(score, target) + theirs(-score, mirrored)) / 2
    torch.testing.assert_close(loss(torch.stack([-score, score], dim=1), target), expected)


def test_steps_of_the_jaccard_loss_keep_their_digits():
    own = torch.rand(300_000) < 0.01
    total = int(own.sum())
    left, union = total - own.cumsum(0).double(), total + (~own).cumsum(0).double()
    values = torch.cat([torch.zeros(1, dtype=torch.float64), 1 - left / union])
    torch.testing.assert_close(jaccard_steps(own).double(), values.diff(), rtol=1e-6, atol=1e-12)
    assert values[-1] == 1
