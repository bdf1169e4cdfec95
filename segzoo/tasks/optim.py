"""Optimiser, parameter groups and learning-rate schedule of the DeepLab recipe."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segzoo.config.schema import OptimizerConfig


def parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort trainable parameters into weights, those without decay, and biases.

    Weight decay acts on convolution and linear weights; not on depthwise kernels, norms and biases. Biases of
    convolutions learn `bias_lr_factor` times as fast; offsets of norms do not.

    Source: TensorFlow's research/deeplab (train_utils.get_model_gradient_multipliers; separable convolutions
        with weight_decay on the pointwise kernel only).
    """
    weights, plain, biases = [], [], []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm)) or _is_depthwise(module, name):
                plain.append(parameter)
            elif name == "bias":
                biases.append(parameter)
            else:
                weights.append(parameter)
    rate = config.learning_rate
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": weights, "lr": rate, "weight_decay": config.weight_decay},
        {"name": "no_decay", "params": plain, "lr": rate, "weight_decay": 0.0},
        {"name": "biases", "params": biases, "lr": rate * config.bias_lr_factor, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimiser over `parameter_groups`."""
    groups = parameter_groups(network, config)
    if config.name == "adamw":
        return AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))
    return SGD(groups, lr=config.learning_rate, momentum=config.momentum)


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """What the learning rate is multiplied by at a step: linear warm-up, then (1 - step / steps) ^ power.

    >>> learning_rate_factor(0, 100, OptimizerConfig())
    1.0
    >>> round(learning_rate_factor(50, 100, OptimizerConfig()), 4)
    0.5359
    """
    warm_up = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return float(warm_up * max(0.0, 1 - step / steps) ** config.poly_power)


def build_schedule(optimizer: Optimizer, steps: int, config: OptimizerConfig) -> LambdaLR:
    """`learning_rate_factor` as a scheduler that steps with the optimiser."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, config))


def _is_depthwise(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Conv2d) and name == "weight" and module.groups == module.in_channels > 1
