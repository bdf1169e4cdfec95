"""Whole networks learn alike, recomputing or plain; nothing but their training step knows."""

import copy

import pytest
import torch
from learning import kept_bytes, learned, recomputing
from torch import nn

from segzoo.backbones import build_classifier
from segzoo.backbones.layers import Flow
from segzoo.config.schema import BackboneConfig, ModelConfig
from segzoo.cpu.recompute import TrainingPass
from segzoo.models.build import build_segmenter
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.run import prepare


def network_of(backbone, decoder, *, freeze=False, **options):
    torch.manual_seed(0)
    config = ModelConfig(
        decoder=decoder,
        output_stride=16,
        auxiliary_weight=0.4,
        freeze_backbone=freeze,
        backbone=BackboneConfig(name=backbone, width=0.125, weights=None, **options),
    )
    return build_segmenter(config, 5, pretrained=False).double().train()


def recomputing_pass(method="training_logits"):
    return TrainingPass(method, recompute=True)


def check_alike(network, image, method="training_logits", convolutions=1):
    plain = copy.deepcopy(network)
    names = list(network.state_dict())
    torch.manual_seed(0)  # dropout and drop path
    expected = learned(plain, image, TrainingPass(method, recompute=False))
    torch.manual_seed(0)
    run = recomputing_pass(method)
    found = learned(network, image, run)
    assert recomputing(run, network) >= convolutions
    assert list(network.state_dict()) == names
    assert found.keys() == expected.keys()
    # Biases and offsets in front of a norm have a gradient of zero, up to rounding.
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-12 * largest, rtol=1e-6, msg=name)
    return run


@pytest.mark.parametrize(
    ("backbone", "decoder", "convolutions"),
    [
        ("xception65", "deeplabv3plus", 130),
        ("xception", "deeplabv3plus", 40),
        ("xception65p", "unet", 50),
        ("xception", "deeplabv3plus_smp", 40),
        ("xception41", "upernet", 70),
    ],
)
def test_whole_networks_learn_alike(backbone, decoder, convolutions):
    image = torch.randn(2, 3, 65, 49, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    check_alike(network_of(backbone, decoder), image, convolutions=convolutions)


def test_drop_path_and_frozen_parts_learn_alike():
    image = torch.randn(3, 3, 65, 65, dtype=torch.float64)
    check_alike(network_of("xception", "deeplabv3plus", drop_path=0.5), image, convolutions=40)
    check_alike(network_of("xception", "deeplabv3plus", freeze=True), image)


def test_a_classifier_learns_alike():
    torch.manual_seed(0)
    network = build_classifier("xception", 5, width=0.125, padding="same").double().train()
    network.backbone.freeze(4)
    check_alike(network, torch.randn(2, 3, 64, 64, dtype=torch.float64), "forward", convolutions=25)


def test_one_trace_serves_all_sizes():
    network, run = network_of("xception", "unet"), recomputing_pass()
    traces = set()
    for height, width in ((64, 64), (33, 95), (128, 40)):
        image = torch.randn(2, 3, height, width, dtype=torch.float64)
        plain = copy.deepcopy(network)
        torch.manual_seed(0)
        expected = plain.training_logits(image)
        torch.manual_seed(0)
        found = run(network, image)
        traces.add(run.rewritten(network))
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other)
    assert len(traces) == 1
    assert None not in traces


def test_a_hook_of_yours_is_called():
    network, run, image = (
        network_of("xception", "unet"),
        recomputing_pass(),
        torch.randn(2, 3, 64, 64, dtype=torch.float64),
    )
    run(network, image)
    seen = []
    norm = network.backbone.middle_flow[0].layers[0].norm
    handle = norm.register_forward_hook(lambda *_: seen.append("forward"))
    run(network, image)
    handle.remove()
    handle = norm.register_full_backward_hook(lambda *_: seen.append("backward"))
    sum(output.sum() for output in run(network, image)).backward()
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    run(network, image)
    handle.remove()
    assert seen[:2] == ["forward", "backward"]
    assert norm in seen
    before = len(seen)
    run(network, image)
    assert len(seen) == before


def test_a_forward_of_yours_is_called():
    network, run, image = (
        network_of("xception", "unet"),
        recomputing_pass(),
        torch.randn(2, 3, 64, 64, dtype=torch.float64),
    )
    norm = network.backbone.middle_flow[0].layers[0].norm
    seen, original = [], norm.forward
    norm.forward = lambda x: seen.append(1) or original(x)
    run(network, image)
    assert seen == [1]


def test_modules_that_are_exchanged_or_switched_are_those_that_run():
    network, run = network_of("xception", "unet"), recomputing_pass()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    run(network, image)
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in the network's own modules, as Lightning does
    run(network, image)
    kinds = {type(module) for module in run.rewritten(network).modules()}
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    network.backbone.freeze()
    stem = network.backbone.stem.norm1
    before = stem.running_mean.clone()
    run(network, image)
    assert torch.equal(stem.running_mean, before)


def test_evaluation_is_plain():
    network, run = network_of("xception", "unet").eval(), recomputing_pass()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(run(network, image)[0], network(image))
    assert run.rewritten(network) is None


def test_what_is_compiled_runs_compiled():
    network, run = network_of("xception", "unet"), recomputing_pass()
    assert run.rewritten(network) is not None
    network.backbone.compile()
    assert run.rewritten(network) is None


def test_checkpointed_flows_run_as_they_are():
    image = torch.randn(2, 3, 65, 65, dtype=torch.float64)
    network = network_of("xception", "deeplabv3plus", gradient_checkpointing=True)
    run = check_alike(network, image)
    assert sum(isinstance(module, Flow) for module in run.rewritten(network).modules()) == 3


class Alternating(nn.Module):
    """What a trace would do once."""

    def __init__(self):
        super().__init__()
        self.norm, self.convolution, self.calls = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), 0

    def forward(self, x):
        self.calls += 1
        return self.convolution(self.norm(x) if self.calls % 2 else x)


def test_modules_of_yours_are_called():
    network, run = (
        nn.Sequential(Alternating(), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1)).train(),
        recomputing_pass("forward"),
    )
    for _ in range(3):
        run(network, torch.randn(2, 6, 8, 8))
    assert network[0].calls == 3
    assert network[0].norm.num_batches_tracked == 2
    assert recomputing(run, network) == 1


class Unusual(nn.Module):
    """Things between a ReLU and its convolution that forbid to compute it later, in a class that is traced."""

    __module__ = "segzoo.unusual"

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.first, self.norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.relu, self.second = nn.ReLU(inplace=way == "ReLU in place"), nn.Conv2d(6, 6, 1)
        self.scale = nn.Parameter(torch.full((1, 6, 1, 1), 2.0))

    def forward(self, x):
        x = self.norm(self.first(x))
        if self.way == "a parameter":
            x = x * self.scale
        active = self.relu(x)
        out = self.second(active)
        if self.way == "changed later":
            return out + x.mul_(2)
        if self.way == "seen twice":
            return out + active
        if self.way == "learns" and self.training:
            return 2 * out
        if self.way == "looks at values":
            return out if x.sum() > 1e9 else out + x
        return out + x


@pytest.mark.parametrize(
    "way", ["usual", "ReLU in place", "changed later", "seen twice", "a parameter", "looks at values"]
)
def test_what_forbids_it_is_seen(way):
    torch.manual_seed(0)
    network = nn.Sequential(Unusual(way), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1)).double().train()
    run = check_alike(network, torch.randn(2, 6, 8, 8, dtype=torch.float64), "forward")
    assert recomputing(run, network) == (2 if way == "usual" else 1)


def test_a_part_that_is_switched_is_traced_anew():
    network, run = nn.Sequential(Unusual("learns")).double().train(), recomputing_pass("forward")
    image = torch.randn(2, 6, 8, 8, dtype=torch.float64)
    run(network, image)
    network[0].eval()
    torch.testing.assert_close(run(network, image), network(image))


def test_the_task_and_its_switch(tiny_config):
    """In float32, where the two round differently."""
    losses, kept = {}, {}
    for recompute in ("true", "false"):
        torch.manual_seed(0)
        task = prepare(tiny_config(f"trainer.recompute={recompute}"), None)[2].train()
        assert isinstance(task, SegmentationTask)
        names, modules = list(task.state_dict()), len(list(task.modules()))
        torch.manual_seed(1)
        images = torch.randint(256, (2, 3, 48, 64), dtype=torch.uint8)
        batch = {"image": images, "mask": torch.zeros(2, 48, 64, dtype=torch.uint8), "id": ["a", "b"]}
        losses[recompute] = task.loss_of(batch)
        losses[recompute].backward()
        kept[recompute] = kept_bytes(lambda task=task, batch=batch: task.loss_of(batch), task)
        assert (list(task.state_dict()), len(list(task.modules()))) == (names, modules)
        task.zero_grad()
        other = copy.deepcopy(task)
        other.loss_of(batch).backward()
        assert all(parameter.grad is None for parameter in task.parameters())
        assert any(parameter.grad is not None for parameter in other.parameters())
    torch.testing.assert_close(losses["true"], losses["false"], rtol=1e-4, atol=0)
    assert kept["true"] < 0.9 * kept["false"]
