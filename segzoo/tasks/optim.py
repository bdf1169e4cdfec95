"""Optimiser, parameter groups, learning-rate schedule, and the moving average of the weights."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from timm.optim import RMSpropTF
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segzoo.backbones.spec import Network
from segzoo.config.schema import OptimizerConfig

PAPER_BATCH = 16
"""Images per step that the default learning rate, DeepLab's, is made for."""


def parameter_groups(network: nn.Module, config: OptimizerConfig, rate: float) -> list[dict[str, Any]]:
    """Sort trainable parameters into weights, those without decay, and biases; the backbone's by depth if asked.

    Weight decay acts on convolution and linear weights; not on depthwise kernels, norms and biases. Biases of
    convolutions learn `bias_lr_factor` times as fast; offsets of norms do not. Groups with the full learning rate
    come first.

    Args:
        network: a segmenter, a classifier, or any network, which then has no backbone of its own rate.
        config: decay and factors.
        rate: learning rate.

    Source: TensorFlow's research/deeplab (train_utils.get_model_gradient_multipliers; separable convolutions
        with weight_decay on the pointwise kernel only).
    """
    factors = rate_factors(network, config)
    groups: dict[tuple[float, str], list[Parameter]] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                kind = _kind(module, name)
                groups.setdefault((factors.get(parameter, config.head_lr_factor), kind), []).append(parameter)
    order = ("weights", "no_decay", "biases")
    return [
        {
            "name": kind if factor == 1 else f"{kind} at {factor:.3g}",
            "params": groups[factor, kind],
            "lr": rate * factor * (config.bias_lr_factor if kind == "biases" else 1.0),
            "weight_decay": config.weight_decay if kind == "weights" else 0.0,
        }
        for factor, kind in sorted(groups, key=lambda key: (key[0] != 1, -key[0], order.index(key[1])))
    ]


def rate_factors(network: nn.Module, config: OptimizerConfig) -> dict[Parameter, float]:
    """Learning rate of each of the backbone's parameters over the optimiser's.

    The deepest module learns at `backbone_lr_factor * layer_decay`, each one before it `layer_decay` times that.

    Source: layer-wise decay as arXiv:2106.08254, appendix; what is behind the backbone counts as the last layer.
    """
    if not isinstance(network, Network):
        return {}
    factor = config.backbone_lr_factor
    factors: dict[Parameter, float] = {}
    for module in reversed(network.backbone.in_order()):
        factor *= config.layer_decay
        factors |= dict.fromkeys(module.parameters(), factor)
    return dict.fromkeys(network.backbone.parameters(), factor) | factors


def learning_rate(config: OptimizerConfig, batch_size: int) -> float:
    """The configuration's learning rate, scaled to the batch if asked.

    Args:
        config: rate, and the batch that it is meant for.
        batch_size: images in a step.

    Source: linear for SGD, arXiv:1706.02677; square root for the adaptive ones, arXiv:2205.10287.

    >>> learning_rate(OptimizerConfig(learning_rate=0.01, scale_to_batch=16), 4)
    0.0025
    >>> learning_rate(OptimizerConfig(name="adamw", learning_rate=0.01, scale_to_batch=16), 4)
    0.005
    """
    if config.scale_to_batch is None:
        return config.learning_rate
    ratio = batch_size / config.scale_to_batch
    return config.learning_rate * (ratio if config.name == "sgd" else math.sqrt(ratio))


def batch_advice(config: OptimizerConfig, batch_size: int) -> str | None:
    """A line for a run with the paper's learning rate, but half its batch or less, or twice or more."""
    paper = OptimizerConfig()
    papers_rate = (config.name, config.learning_rate) == (paper.name, paper.learning_rate)
    if not papers_rate or config.scale_to_batch or PAPER_BATCH / 2 < batch_size < PAPER_BATCH * 2:
        return None
    scaled = paper.learning_rate * batch_size / PAPER_BATCH
    return (
        f"optimizer.learning_rate {config.learning_rate:g} is DeepLab's for {PAPER_BATCH} images per step, and this "
        f"run has {batch_size}. Consider optimizer.scale_to_batch={PAPER_BATCH}, which makes it {scaled:.2g}."
    )


def build_optimizer(network: nn.Module, config: OptimizerConfig, batch_size: int) -> Optimizer:
    """The optimiser over `parameter_groups`.

    RMSprop is TensorFlow's: epsilon under the root, a mean of squares that starts at 1, the learning rate inside the
    momentum. torch's own has epsilon beside the root and starts at 0, so its first steps are far larger. Weight decay
    is decoupled in AdamW only; in the others it joins the gradient.

    Args:
        network: whose parameters to move.
        config: which optimiser, and how.
        batch_size: images in a step.
    """
    rate = learning_rate(config, batch_size)
    groups = parameter_groups(network, config, rate)
    if config.adaptive is None:
        return SGD(groups, lr=rate, momentum=config.momentum)
    decay, epsilon = config.adaptive
    if config.name == "adamw":
        return AdamW(groups, lr=rate, betas=(config.momentum, decay), eps=epsilon)
    optimizer: Optimizer = RMSpropTF(groups, lr=rate, alpha=decay, eps=epsilon, momentum=config.momentum)
    return optimizer


def step_period(config: OptimizerConfig, images_per_step: int, samples: int | None) -> Fraction | None:
    """Steps between two changes of the rate in the step schedule, not rounded; None for the others.

    Args:
        config: counts steps, passes over the training split, or images.
        images_per_step: images in an optimiser step.
        samples: images in the training split, where passes are counted.

    Raises:
        ValueError: passes are counted, and `samples` is None.

    >>> step_period(OptimizerConfig(schedule="step", step_every_epochs=2), 256, 1_281_167)
    Fraction(1281167, 128)
    """
    if config.schedule != "step":
        return None
    if config.step_every is not None:
        return Fraction(config.step_every)
    images = Fraction(config.step_every_images or 0)
    if config.step_every_epochs is not None:
        if samples is None:
            raise ValueError("step_every_epochs needs the number of training images")
        images = Fraction(config.step_every_epochs) * samples
    return images / images_per_step


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig, period: Fraction | None = None) -> float:
    """What the learning rate is multiplied by at a step: linear warm-up times the schedule.

    Args:
        step: steps done before this one.
        steps: steps in the whole run.
        config: schedule and warm-up.
        period: steps between two changes in the step schedule, from `step_period`; None is `step_every`.

    Source: poly as DeepLab, arXiv:1606.00915, section 4.1; cosine as arXiv:1608.03983, equation 5, without restarts;
        step as Xception's, arXiv:1610.02357v3, section 4.2.

    >>> learning_rate_factor(0, 100, OptimizerConfig())
    1.0
    >>> round(learning_rate_factor(50, 100, OptimizerConfig()), 4)
    0.5359
    """
    warm_up = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return warm_up * _schedule(step, steps, config, period)


def build_schedule(
    optimizer: Optimizer, steps: int, config: OptimizerConfig, period: Fraction | None = None
) -> LambdaLR:
    """`learning_rate_factor` as a scheduler that steps with the optimiser."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, config, period))


def _schedule(step: int, steps: int, config: OptimizerConfig, period: Fraction | None) -> float:
    done = min(1.0, step / steps)
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "step":
        return float(config.step_factor ** (step // (period or config.step_every or steps)))
    return float((1 - done) ** config.poly_power)


def _kind(module: nn.Module, name: str) -> str:
    if isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm)) or _is_depthwise(module, name):
        return "no_decay"
    return "biases" if name == "bias" else "weights"


def _is_depthwise(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Conv2d) and name == "weight" and module.groups == module.in_channels > 1


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
