"""The inspector's figures, each against a measurement or timm."""

import json

import pytest
import timm
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from segzoo.backbones import build_backbone, list_backbones
from segzoo.backbones.describe import describe_backbone
from segzoo.backbones.layers import MaxPool
from segzoo.errors import ConfigError, UnknownNameError


def summing_pool(self, x):
    """Looks where the max-pool looks, and has a gradient for all it sees, not for the largest only."""
    kernel = torch.ones(x.shape[1], 1, 3, 3, dtype=x.dtype)
    return F.conv2d(x, kernel, None, self.stride, self.dilation, self.dilation, x.shape[1])


def measured_receptive_fields(name, output_stride, height):
    """Rows of a tall, thin image that the middle pixel of each feature map has a gradient for."""
    network = build_backbone(name, width=0.05, output_stride=output_stride).eval().double()
    for parameter in network.parameters():
        parameter.data.fill_(1e-2 if parameter.ndim == 4 else 1.0)  # positive: nothing cancels, no ReLU is off
    image = torch.rand(1, 3, height, 5, dtype=torch.double, requires_grad=True)
    fields = []
    for feature in network(image):
        (gradient,) = torch.autograd.grad(feature[0, :, feature.shape[2] // 2].sum(), image, retain_graph=True)
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        fields.append(int(rows.max() - rows.min()) + 1)
    return fields


@pytest.mark.parametrize("output_stride", [32, 8])
@pytest.mark.parametrize("name", ["xception", "xception41"])
def test_receptive_field_is_what_gradients_reach(name, output_stride, monkeypatch):
    monkeypatch.setattr(MaxPool, "forward", summing_pool)
    fields = [tap.receptive_field for tap in describe_backbone(name, size=(64, 64), output_stride=output_stride).taps]
    assert measured_receptive_fields(name, output_stride, max(fields) + 65) == fields


def test_macs_and_parameters_are_timms(variant):
    """The same counter on timm's network; timm's pages say up to 1 % more, for they count norms too."""
    found = describe_backbone(variant, size=(299, 299), output_stride=32)
    with torch.device("meta"):
        theirs = timm.create_model("legacy_xception" if variant == "xception" else variant, num_classes=0)
        ours_image = torch.empty(1, 3, 299, 299)
    assert found.parameters == sum(parameter.numel() for parameter in theirs.parameters())
    if variant != "xception":  # its stem pads in ours, and not in timm's
        with FlopCounterMode(display=False) as counter:
            theirs(ours_image)
        assert found.macs == counter.get_total_flops() // 2


def test_macs_are_near_the_published():
    found = describe_backbone("xception65", size=(299, 299), output_stride=32)
    assert found.macs / 1e9 == pytest.approx(13.96, rel=0.01)


def test_activation_memory_is_what_a_real_step_keeps():
    network = build_backbone("xception", width=0.25, output_stride=16)
    weights = {tensor.data_ptr() for tensor in network.state_dict().values()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(1, 3, 65, 97))
    found = describe_backbone("xception", width=0.25, size=(65, 97), output_stride=16)
    assert found.activation_bytes == sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_nothing_is_allocated():
    """A size no memory would hold."""
    assert describe_backbone("xception71", size=(20_000, 20_000), output_stride=8).activation_bytes > 10**11


def test_wrong_requests():
    with pytest.raises(UnknownNameError, match="Did you mean xception65"):
        describe_backbone("xceptoin65")
    for size in ((0, 5), (5, -1), (10**30, 5), (5, 2**63)):
        with pytest.raises(ConfigError, match=f"size is {size[0]}×{size[1]}; both sides must be 1 to 1,000,000 pixels"):
            describe_backbone("xception", size=size)


def test_tool_prints_taps(run_tool):
    found = run_tool("backbones.py", "xception", "--size", 97, 129, "--output-stride", 8, "--json")
    assert found.returncode == 0, found.stderr
    described = json.loads(found.stdout)
    assert described["parameters"] == 20_806_952
    assert [tap["stride"] for tap in described["taps"]] == [2, 4, 8, 8, 8]
    assert [tap["size"] for tap in described["taps"]] == [[49, 65], [25, 33], [13, 17], [13, 17], [13, 17]]
    assert [tap["dilation"] for tap in described["taps"]] == [1, 1, 1, 2, 4]
    assert {"name", "channels", "receptive_field", "activated"} <= described["taps"][0].keys()


def test_tool_lists_published_weights(call_tool, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    shown = call_tool("backbones.py", "--weights").stdout
    found = json.loads(call_tool("backbones.py", "--weights", "--json").stdout)
    assert {entry["backbone"] for entry in found} == {name for name in list_backbones() if name.startswith("xception")}
    for entry in found:
        (line,) = [
            line for line in shown.splitlines() if f" {entry['tag']} " in line and entry["backbone"] + " " in line
        ]
        assert f"{entry['top1']:.2f}" in line
        assert (entry["sha256"] or "not known") in line
    of_one = json.loads(call_tool("backbones.py", "xception65", "--weights", "--json").stdout)
    assert of_one == [entry for entry in found if entry["backbone"] == "xception65"]


@pytest.mark.slow
def test_tool_lists_all(run_tool):
    found = run_tool("backbones.py")
    assert found.returncode == 0, found.stderr
    assert all(name in found.stdout for name in list_backbones() if not name.startswith("mine"))


def test_tool_says_what_is_wrong(run_tool):
    found = run_tool("backbones.py", "xeption", "--output-stride", 5)
    assert found.returncode == 2
    assert "error: " in found.stderr
    assert "Traceback" not in found.stderr
