import numpy as np
import pytest
import torch

from segzoo.config.schema import LossConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.tasks.losses import CrossEntropy, build_cross_entropy

WEIGHTS = (0.5, 1.0, 2.0, 0.0, 7.0)


def numpy_reference(logits: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    pixels = list(zip(*np.nonzero(target != 255), strict=True))
    losses = [-weights[target[n, y, x]] * log_probability[n, target[n, y, x], y, x] for n, y, x in pixels]
    return float(np.sum(losses) / np.sum([weights[target[pixel]] for pixel in pixels]))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_equals_numpy_and_ignores_ignored_pixels(weights: tuple[float, ...] | None) -> None:
    loss = CrossEntropy(255, weights)
    logits = torch.randn(2, 5, 6, 7)
    target = torch.randint(0, 5, (2, 6, 7))
    target[:, :2] = 255
    expected = numpy_reference(logits.numpy(), target.numpy(), np.array(weights or [1.0] * 5))
    np.testing.assert_allclose(loss(logits, target), expected, rtol=1e-5)
    changed = logits.clone()
    changed[:, :, :2] = 1e3 * torch.randn(2, 5, 2, 7)
    assert torch.equal(loss(logits, target), loss(changed, target))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_all_ignored_is_zero_with_finite_gradients(weights: tuple[float, ...] | None) -> None:
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    loss = CrossEntropy(255, weights)(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_weights_are_no_part_of_the_state() -> None:
    assert CrossEntropy(255, WEIGHTS).state_dict() == {}


def test_wrong_number_of_weights_is_refused() -> None:
    labels = LabelSpace.from_names(["a", "b"])
    with pytest.raises(ConfigError, match=r"loss.class_weights: 3 weights for 2 classes.*a, b"):
        build_cross_entropy(LossConfig(class_weights=(1.0, 2.0, 3.0)), labels)
    assert build_cross_entropy(LossConfig(class_weights=(1.0, 2.0)), labels).weight is not None
