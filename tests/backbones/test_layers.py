"""Behaviour in training: frozen norms and networks, checkpointing, first weights, and that it learns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segzoo.backbones import build_backbone, build_classifier
from segzoo.backbones.layers import Convolution, MaxPool


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(before, after):
    assert all(torch.equal(before[name], after[name]) for name in before)


def train_step(network):
    network.train()
    features = network(torch.rand(2, 3, 33, 33))
    loss = sum(feature.square().mean() for feature in features)
    if loss.requires_grad:
        loss.backward()


def test_frozen_backbone_does_not_move():
    network = build_backbone("xception41", width=0.1, drop_path=0.5).freeze()
    before = snapshot(network)
    train_step(network)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert_same(before, network.state_dict())


def test_frozen_norm_does_not_move_but_convolutions_learn():
    network = build_backbone("xception", width=0.1, norm="frozen")
    before = snapshot(network)
    train_step(network)
    assert_same(before, network.state_dict())
    learning = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, value in network.named_parameters() if value.ndim == 4}
    assert network.state_dict().keys() == build_backbone("xception", width=0.1).state_dict().keys()


def test_batch_norm_moves():
    """What the two tests above would miss if nothing ever moved."""
    network = build_backbone("xception", width=0.1)
    before = snapshot(network)
    train_step(network)
    assert not torch.equal(before["stem.norm1.running_mean"], network.state_dict()["stem.norm1.running_mean"])


def test_frozen_norms_stay_frozen_on_several_gpus():
    """Where training shares BatchNorm among devices, torch turns every BatchNorm into one that moves."""
    network = nn.SyncBatchNorm.convert_sync_batchnorm(build_backbone("xception", width=0.1, norm="frozen"))
    before = snapshot(network)
    train_step(network)
    assert_same(before, network.state_dict())


def test_norm_momentum_and_eps():
    network = build_backbone("xception41p", width=0.1, norm_momentum=0.01, norm_eps=0.5)
    assert {(m.momentum, m.eps) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {(0.01, 0.5)}


@pytest.mark.parametrize(
    ("name", "eps"), [("xception", 1e-3), ("xception65", 1e-3), ("xception41p", 1e-5), ("xception65p", 1e-3)]
)
def test_every_variant_has_its_eps(name, eps):
    network = build_backbone(name, width=0.1)
    assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {eps}


def test_group_norm_divides_every_channel_count():
    with torch.device("meta"):
        network = build_backbone("xception", norm="group")
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert {(norm.num_channels, norm.num_groups) for norm in norms} >= {(728, 28), (2048, 32)}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "synchronised"), [("xception", False), ("xception41", False), ("xception41p", False), ("xception", True)]
)
def test_checkpointing_changes_memory_only(name, synchronised):
    """Gradients and BatchNorm's statistics: a second run of the batch must not count it twice."""
    torch.manual_seed(1)
    plain = build_backbone(name, width=0.1)
    frugal = build_backbone(name, width=0.1, gradient_checkpointing=True)
    frugal.load_state_dict(plain.state_dict())
    if synchronised:
        plain, frugal = map(nn.SyncBatchNorm.convert_sync_batchnorm, (plain, frugal))
    image = torch.rand(2, 3, 65, 65)
    kept = []
    for network in (plain, frugal):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.nbytes) or t, lambda t: t):
            features = network(image)
        kept.append(sum(sizes))
        sum(feature.square().mean() for feature in features).backward()
    assert kept[1] < kept[0] / 2
    assert_same(plain.state_dict(), frugal.state_dict())
    for ours, theirs in zip(plain.parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_dilated_pool_is_a_maximum_over_the_image(size):
    """Padding takes no part, although every value is negative."""
    x = -torch.rand(1, 2, *size) - 1
    pooled = MaxPool(1, 2, "symmetric")(x)
    assert pooled.shape == x.shape
    assert (pooled < 0).all()
    rows = [row for row in (2, 4, 6) if row < size[0]]
    assert pooled[0, 0, 4, 4] == x[0, 0, rows][:, [2, 4, 6]].max()


@pytest.mark.parametrize(("size", "first"), [(8, 0), (9, -1)])
def test_same_padding_starts_where_tensorflow_starts(size, first):
    """An even size is padded at its end only, an odd one at both ends: `first` is the first pixel a kernel sees."""
    convolution = Convolution(1, 1, 3, stride=2, padding="same")
    with torch.no_grad():
        convolution.weight.zero_()[0, 0, 0, 0] = 1.0  # copies the top left pixel of its window
        x = torch.arange(1.0, size * size + 1).view(1, 1, size, size)
        out = convolution(x)
    assert out.shape[-1] == -(-size // 2)
    assert out[0, 0, 0, 0] == (x[0, 0, 0, 0] if first == 0 else 0)


def test_first_activations_are_sane(variant):
    """Neither vanishing nor exploding in training mode, with gradients that reach the stem."""
    check_activations(build_backbone(variant, width=0.25))


@pytest.mark.slow
def test_first_activations_are_sane_at_full_width(variant):
    check_activations(build_backbone(variant))


def check_activations(network):
    features = network(torch.rand(2, 3, 64, 64) * 2 - 1)
    for feature in features:
        assert 0.05 < feature.std() < 20
    features[-1].square().mean().backward()
    assert 1e-7 < network.stem.conv1.weight.grad.abs().mean() < 1e3


@pytest.mark.parametrize("name", ["xception", "xception41", "xception41p"])
def test_learns_a_tiny_batch(name):
    torch.manual_seed(0)
    network = build_classifier(name, 4, width=0.25, dropout=0.0, output_stride=16)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    image, label = torch.rand(4, 3, 48, 48) * 2 - 1, torch.arange(4)
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(image), label)
        loss.backward()
        optimizer.step()
    assert loss < 0.3
