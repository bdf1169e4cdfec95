import pytest
import torch
from torch import nn

from segzoo.config.schema import OptimizerConfig
from segzoo.tasks.optim import build_optimizer, build_schedule, learning_rate_factor, parameter_groups


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),  # depthwise
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 4, 1),
    )


def test_groups_of_the_recipe() -> None:
    net = network()
    groups = {group["name"]: group for group in parameter_groups(net, OptimizerConfig(learning_rate=0.1))}
    shapes = {name: sorted(tuple(p.shape) for p in group["params"]) for name, group in groups.items()}
    assert shapes["weights"] == [(4, 8, 1, 1), (8, 3, 3, 3)]
    assert shapes["biases"] == [(4,)]
    assert shapes["no_decay"] == [(8,), (8,), (8,), (8,), (8, 1, 3, 3)]
    assert groups["weights"]["weight_decay"] == 4e-5
    assert groups["no_decay"]["weight_decay"] == groups["biases"]["weight_decay"] == 0
    assert (groups["weights"]["lr"], groups["biases"]["lr"]) == (0.1, 0.2)


def test_every_trainable_parameter_once_and_no_frozen_one() -> None:
    net = network()
    net[0].weight.requires_grad = False
    grouped = [id(p) for group in parameter_groups(net, OptimizerConfig()) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters() if p.requires_grad)


def test_poly_schedule_in_closed_form() -> None:
    config = OptimizerConfig(learning_rate=0.007)
    optimizer = build_optimizer(network(), config)
    schedule = build_schedule(optimizer, 100, config)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.007 * (1 - step / 100) ** 0.9 for step in range(100)])
    assert optimizer.param_groups[0]["lr"] == 0


def test_warm_up_is_linear() -> None:
    config = OptimizerConfig(warmup_steps=4, poly_power=0)
    assert [learning_rate_factor(step, 100, config) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_momentum_is_not_nesterov() -> None:
    optimizer = build_optimizer(network(), OptimizerConfig())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"] is False
