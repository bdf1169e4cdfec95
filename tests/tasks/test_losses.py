import numpy as np
import torch

from segzoo.tasks.losses import cross_entropy


def numpy_reference(logits: np.ndarray, target: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    picked = [log_probability[n, target[n, y, x], y, x] for n, y, x in zip(*np.nonzero(target != 255), strict=True)]
    return -float(np.mean(picked))


def test_cross_entropy_equals_numpy_and_ignores_ignored_pixels() -> None:
    logits = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 6, 7))
    target[:, :2] = 255
    expected = numpy_reference(logits.numpy(), target.numpy())
    np.testing.assert_allclose(cross_entropy(logits, target, 255), expected, rtol=1e-5)
    changed = logits.clone()
    changed[:, :, :2] = 1e3 * torch.randn(2, 5, 2, 7)
    assert torch.equal(cross_entropy(logits, target, 255), cross_entropy(changed, target, 255))


def test_all_ignored_is_zero_with_finite_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 4, 4), 255), 255)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
