"""One optimiser step from several batches: `trainer.accumulate`.

A step's images come as one batch (see data/sampling.py) and pass the network in parts. So a step stays what it is
without accumulation: one entry of the sample order, one row of metrics.csv, one place to resume from.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, autograd
from torch.nn import Parameter

Batch = Mapping[str, Any]
"""Tensors and lists with an entry for each sample."""

Compute = Callable[[Any], Tensor]


def parts_of(batch: Batch, count: int) -> list[dict[str, Any]]:
    """A batch in `count` parts of equal size, in order.

    Raises:
        ValueError: they would not be equal.
    """
    size, rest = divmod(len(batch["id"]), count)
    if rest:
        raise ValueError(f"{len(batch['id'])} images do not make {count} equal parts")
    places = [slice(first, first + size) for first in range(0, size * count, size)]
    return [{name: values[own] for name, values in batch.items()} for own in places]


def accumulated_loss(
    compute: Compute, parts: Sequence[Batch], weights: Tensor, parameters: Sequence[Parameter], scale: float = 1.0
) -> Tensor:
    """The weighted sum of the parts' losses, whose gradient is ready, in the memory of one part.

    Each part goes forward and backward before the next one starts. `backward()` on the result hands the gradients out
    at once, so whoever looks on, such as DDP, sees one ordinary backward pass.

    Args:
        compute: a part's loss.
        parts: of the step's batch.
        weights: (len(parts),), of each part in the sum.
        parameters: those that learn.
        scale: multiplies the loss in the backward passes, lest float16 gradients vanish; the result's is without it.
    """
    loss: Tensor = _Accumulated.apply(compute, parts, weights, scale, *parameters)
    return loss


class _Accumulated(autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, compute: Compute, parts: Sequence[Batch], weights: Tensor, scale: float, *parameters: Parameter
    ) -> Tensor:
        total = torch.zeros((), device=weights.device)
        sums: list[Tensor | None] = [None] * len(parameters)
        for part, weight in zip(parts, weights, strict=True):
            with torch.enable_grad():
                loss = compute(part) * weight
                gradients = autograd.grad(loss * scale, parameters, allow_unused=True)
            sums = [_sum(before, new) for before, new in zip(sums, gradients, strict=True)]
            total += loss.detach()
        ctx.sums, ctx.scale = sums, scale
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        factor = outputs[0] / ctx.scale
        gradients = [None if gradient is None else gradient.mul_(factor) for gradient in ctx.sums]
        ctx.sums = []
        return (*repeat(None, 4), *gradients)


def _sum(before: Tensor | None, new: Tensor | None) -> Tensor | None:
    if before is None or new is None:
        return new if before is None else before
    return before.add_(new)
