"""An exponential moving average of a network's weights: `optimizer.ema_decay`."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """A shadow of a network that follows its weights slowly, and predicts better than they do.

    All floating-point tensors of the state are averaged: parameters, and the running mean and variance of norms
    alike, so that the statistics are those of the averaged weights' recent past. Counters are copied.

    `swapped` says whether the network has the average now, and this the weights.

    Args:
        network: starts the average.
        decay: part of the average that stays at each step; less in the first ones, see `decay_at`.

    Source: Polyak averaging as in arXiv:1610.02357v3, section 4.2; TensorFlow's ExponentialMovingAverage with
        num_updates, which its Inception training applies to the moving statistics too.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self.swapped = False

    def decay_at(self, step: int) -> float:
        """The decay of an update: small at first, or the random start would stay in the average for long.

        Args:
            step: steps done, this one among them.

        >>> average = WeightAverage(nn.Identity(), 0.999)
        >>> average.decay_at(1), average.decay_at(10_000)
        (0.18181818181818182, 0.999)
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follow the network's weights.

        Args:
            network: after an optimiser step.
            step: steps done, this one among them.
        """
        weight = 1 - self.decay_at(step)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, weight)
            else:
                self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the average with the network's weights, in place; a second time puts them back."""
        for name, tensor in network.state_dict().items():
            own = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(own)
        self.swapped = not self.swapped

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a saved average.

        Args:
            tensors: by the names of the network's state.
        """
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
