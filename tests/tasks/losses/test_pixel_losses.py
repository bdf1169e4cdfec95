"""Means over pixels against NumPy written from the formulas, torchvision and SMP."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

WEIGHTS = (0.5, 1.0, 2.0, 0.0, 7.0)
weights = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])


def pixels_of(logits, target):
    """Float64 (P, K) and (P,) of the pixels that count, one by one."""
    found = list(zip(*np.nonzero(target.numpy() != 255), strict=True))
    scores = np.array([logits.numpy()[n, :, y, x] for n, y, x in found], dtype=np.float64)
    return scores, np.array([target.numpy()[pixel] for pixel in found])


def log_softmax(scores):
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def weighted_mean(losses, truth, weights):
    factor = np.array(weights or [1.0] * 5)[truth]
    return (losses * factor).sum() / factor.sum()


def own(values, truth):
    return values[np.arange(len(truth)), truth]


@weights
def test_cross_entropy_in_numpy(weights, make_loss, batch):
    scores, truth = pixels_of(*batch)
    expected = weighted_mean(-own(log_softmax(scores), truth), truth, weights)
    np.testing.assert_allclose(make_loss(class_weights=weights)(*batch), expected, rtol=1e-5)


@weights
def test_label_smoothing_in_numpy_and_torch(weights, make_loss, batch):
    scores, truth = pixels_of(*batch)
    class_factor = np.array(weights or [1.0] * 5)
    soft = 0.9 * np.eye(5)[truth] + 0.1 / 5
    losses = -(soft * log_softmax(scores) * class_factor).sum(1)
    value = make_loss(class_weights=weights, label_smoothing=0.1)(*batch)
    np.testing.assert_allclose(value, losses.sum() / class_factor[truth].sum(), rtol=1e-5)
    weight = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(*batch, weight, ignore_index=255, label_smoothing=0.1)
    torch.testing.assert_close(value, expected)


@weights
def test_hardest_share_in_numpy(weights, make_loss, batch):
    scores, truth = pixels_of(*batch)
    factor = np.array(weights or [1.0] * 5)[truth]
    losses = -own(log_softmax(scores), truth) * factor
    hardest = np.argsort(-losses)[: int(0.3 * len(losses))]
    value = make_loss(class_weights=weights, hard_pixels={"fraction": 0.3})(*batch)
    np.testing.assert_allclose(value, losses[hardest].sum() / factor[hardest].sum(), rtol=1e-5)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (25, 0.825), (100, 0.3), (500, 0.3)])
def test_share_of_hard_pixels_falls_linearly(step, share, make_loss, batch):
    scores, truth = pixels_of(*batch)
    losses = np.sort(-own(log_softmax(scores), truth))[::-1]
    loss = make_loss(add={"cross_entropy": 1.0}, hard_pixels={"fraction": 0.3, "warmup_steps": 100})
    loss.at_step(step)  # of a sum, which tells its terms
    np.testing.assert_allclose(loss(*batch) / 2, losses[: int(share * len(losses))].mean(), rtol=1e-5)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.4, 1), (0.01, 9), (0.4, 1000)])
def test_threshold_and_least_number_in_numpy(threshold, min_kept, make_loss, batch):
    scores, truth = pixels_of(*batch)
    losses = -own(log_softmax(scores), truth)
    improbable = np.exp(-losses) < threshold
    number = min(len(truth), max(improbable.sum(), 2 * min_kept))  # of two images
    value = make_loss(hard_pixels={"threshold": threshold, "min_kept": min_kept})(*batch)
    np.testing.assert_allclose(value, np.sort(losses)[::-1][:number].mean(), rtol=1e-5)


@weights
def test_binary_cross_entropy_in_numpy(weights, make_loss, batch):
    scores, truth = pixels_of(*batch)
    probability = 1 / (1 + np.exp(-scores))
    hot = np.eye(5)[truth]
    losses = -(hot * np.log(probability) + (1 - hot) * np.log(1 - probability)).sum(1)
    value = make_loss(name="binary_cross_entropy", class_weights=weights)(*batch)
    np.testing.assert_allclose(value, weighted_mean(losses, truth, weights), rtol=1e-5)


def test_binary_cross_entropy_gradient_is_probability_minus_truth(make_loss, batch):
    logits, target = batch[0].requires_grad_(), batch[1].where(batch[1] != 255, 0)
    make_loss(name="binary_cross_entropy")(logits, target).backward()
    expected = (logits.sigmoid() - F.one_hot(target, 5).movedim(-1, 1)) / target.numel()
    torch.testing.assert_close(logits.grad, expected)


@weights
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_in_numpy(weights, gamma, make_loss, batch):
    scores, truth = pixels_of(*batch)
    logarithm = own(log_softmax(scores), truth)
    losses = -((1 - np.exp(logarithm)) ** gamma) * logarithm
    value = make_loss(name="focal", focal={"gamma": gamma}, class_weights=weights)(*batch)
    np.testing.assert_allclose(value, weighted_mean(losses, truth, weights), rtol=1e-4)


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_focal_equals_torchvision_and_smp(alpha, make_loss, batch):
    logits, target = batch
    value = make_loss(name="focal", focal={"mode": "sigmoid", "alpha": alpha})(logits, target)
    scores, truth = (torch.from_numpy(part) for part in pixels_of(logits, target))
    hot = F.one_hot(truth, 5).double()
    expected = sigmoid_focal_loss(scores, hot, alpha=-1 if alpha is None else alpha).sum(1).mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    theirs = smp.losses.FocalLoss("multiclass", alpha=alpha, ignore_index=255)(logits, target)
    torch.testing.assert_close(value, 5 * theirs)  # SMP 0.6 divides by the number of classes
