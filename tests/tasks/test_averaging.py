"""The moving average against its closed form."""

import copy

import pytest
import torch
from torch import nn

from segzoo.tasks.optim import WeightAverage


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def walk(net: nn.Module) -> None:
    """Move every weight and statistic, as a training step does."""
    net(torch.randn(4, 1, 3, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += torch.randn_like(parameter)


def test_equals_its_closed_form() -> None:
    net = network()
    average = WeightAverage(net, 0.6)
    history = [copy.deepcopy(net.state_dict())]
    decays = [min(0.6, (1 + n) / (10 + n)) for n in range(1, 31)]
    assert decays[0] == pytest.approx(2 / 11)
    assert decays[-1] == 0.6
    for step in range(1, 31):
        walk(net)
        average.update(net, step)
        history.append(copy.deepcopy(net.state_dict()))
    # Each step's share: what it got at its time, times what every later step left of it.
    shares = [1.0, *(1 - decay for decay in decays)]
    for step, decay in enumerate(decays, start=1):
        shares[:step] = [share * decay for share in shares[:step]]
    assert sum(shares) == pytest.approx(1)
    for name, tensor in average.tensors.items():
        if tensor.is_floating_point():
            expected = sum(share * state[name].double() for share, state in zip(shares, history, strict=True))
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-6)
    assert average.tensors["1.num_batches_tracked"] == 30


def test_swapping_twice_is_nothing_and_once_keeps_every_tensor_object() -> None:
    net = network()
    average = WeightAverage(net, 0.9)
    start = copy.deepcopy(net.state_dict())
    walk(net)
    now, objects = copy.deepcopy(net.state_dict()), [id(tensor) for tensor in (*net.parameters(), *net.buffers())]
    average.swap(net)
    assert all(torch.equal(net.state_dict()[name], start[name]) for name in start)
    assert all(torch.equal(average.tensors[name], now[name]) for name in now)
    average.swap(net)
    assert all(torch.equal(net.state_dict()[name], now[name]) for name in now)
    assert [id(tensor) for tensor in (*net.parameters(), *net.buffers())] == objects


def test_frozen_weights_stay_bitwise() -> None:
    net = network()
    average = WeightAverage(net, 0.9)
    for step in range(1, 20):
        average.update(net, step)
    assert all(torch.equal(average.tensors[name], tensor) for name, tensor in net.state_dict().items())


def test_goes_on_from_a_saved_average() -> None:
    net = network()
    first = WeightAverage(net, 0.9)
    walk(net)
    first.update(net, 1)
    second = WeightAverage(net, 0.9)
    second.load(first.tensors)
    walk(net)
    for average in (first, second):
        average.update(net, 2)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
