"""The network's table: sums, oracles, and the tool."""

import json

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from segzoo.config.model import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, list_decoders
from segzoo.models.decoder import DECODERS
from segzoo.models.describe import describe_segmenter, reading_parts, segmenter_table


def settings(decoder="deeplabv3plus", backbone="xception", width=0.25, **keys):
    strides = DECODERS[decoder].output_strides
    stride = keys.pop("output_stride", 16 if 16 in strides else strides[-1])
    return ModelConfig.model_validate(
        {"decoder": decoder, "output_stride": stride, "backbone": {"name": backbone, "width": width}, **keys}
    )


ALIKE = ("deeplabv3_smp", "fpn", "linknet", "manet", "pspnet")  # wired as others are
EVERY_DECODER = [
    pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ())
    for name in list_decoders()
    if not name.startswith("mine")
]


@pytest.mark.parametrize("decoder", EVERY_DECODER)
def test_parts_add_up_for_every_decoder(decoder):
    found = describe_segmenter(settings(decoder), 5, size=(129, 193))
    for key in ("parameters", "macs", "activation_bytes"):
        assert sum(getattr(part, key) for part in found.parts) == getattr(found, key)
        assert all(getattr(part, key) >= 0 for part in found.parts)
    *parts, between = found.parts
    assert between.parameters == 0
    assert between.macs <= 0.01 * found.macs
    with torch.device("meta"):
        network = build_segmenter(settings(decoder), 5)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    modules = dict(network.named_modules())
    for part in parts:
        assert part.parameters == sum(parameter.numel() for parameter in modules[part.name].parameters())
    assert len(parts) > 8


def convolution_macs(convolution, out):
    """Closed form of one convolution's multiply-adds."""
    per_pixel = convolution.in_channels // convolution.groups * convolution.kernel_size[0] * convolution.kernel_size[1]
    return per_pixel * out.numel()


def test_macs_and_sizes_are_those_of_a_real_pass():
    """Every convolution of a real network, watched by hooks."""
    config = settings()
    network = build_segmenter(config, 7).eval()
    names = dict(reading_parts(network))
    macs, sizes = dict.fromkeys(names, 0), {}

    def watch(name):
        def convolved(module, _inputs, out):
            macs[name] += convolution_macs(module, out)

        for child in names[name].modules():
            if isinstance(child, nn.Conv2d):
                child.register_forward_hook(convolved)

        def ended(_module, _inputs, out):
            while isinstance(out, tuple | list):
                out = out[1] if isinstance(out[1], torch.Tensor) else out[0]
            sizes[name] = tuple(out.shape[1:])

        names[name].register_forward_hook(ended)

    for name in names:
        watch(name)
    with torch.inference_mode():
        network(torch.zeros(1, 3, 40, 49))
    found = {part.name: part for part in describe_segmenter(config, 7, size=(40, 49)).parts if part.name}
    assert {name: part.macs for name, part in found.items()} == {name: macs[name] for name in found}
    assert {name: (part.channels, *part.size) for name, part in found.items()} == {name: sizes[name] for name in found}


def test_memory_is_what_a_real_step_keeps():
    config = settings()
    network = build_segmenter(config, 5).train()
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(2, 3, 65, 97))
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2
    assert describe_segmenter(config, 5, size=(65, 97)).activation_bytes == pytest.approx(real, rel=0.001)


def test_rows_are_what_a_reader_thinks_in():
    found = describe_segmenter(settings(), 21, size=(513, 513))
    rows = [part.name for part in found.parts]
    assert rows == [
        "backbone.stem",
        *(f"backbone.entry_flow.{index}" for index in range(3)),
        "backbone.middle_flow",
        *(f"backbone.exit_flow.{index}" for index in range(2)),
        "decoder.aspp.image_pooling",
        "decoder.aspp.pointwise",
        *(f"decoder.aspp.atrous.{index}" for index in range(3)),
        "decoder.aspp.projection",
        "decoder.low_level",
        "decoder.convolutions.0",
        "decoder.convolutions.1",
        "decoder.logits",
        "",
    ]
    assert [part.modules for part in found.parts if part.modules > 1] == [8]
    assert segmenter_table(found).row_count == len(rows) + 1


def test_nothing_is_allocated():
    """A size no memory would hold."""
    assert describe_segmenter(settings(width=1.0), 5, size=(20_000, 20_000)).activation_bytes > 10**12


def test_channels_of_the_image_count():
    rgb, many = (describe_segmenter(settings(), 2, size=(65, 65), in_channels=count) for count in (3, 12))
    assert many.parameters - rgb.parameters == 9 * 8 * 9  # a 3×3 kernel for each of 9 more channels and 8 outputs


def test_size_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="size is 0×5"):
        describe_segmenter(settings(), 2, size=(0, 5))


def test_tool_prints_json(call_tool):
    done = call_tool(
        "model.py",
        "configs/deeplab_xception.yaml",
        "model.decoder=deeplabv3plus",
        "--size",
        513,
        513,
        "--json",
        "--data.root",
        "nowhere",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["macs"] / 1e9 == pytest.approx(54.17, rel=0.01)  # arXiv:1802.02611v3, Table 5
    assert found["num_classes"] == 21
    assert found["num_classes_from"].startswith("those of voc")
    assert sum(part["macs"] for part in found["parts"]) == found["macs"]


def test_tool_prints_a_table(call_tool):
    done = call_tool("model.py", "configs/unet_xception.yaml", "model.backbone.width=0.1")
    assert done.returncode == 0, done.stderr
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["decoder.decoder.blocks.4", "16×512×512"] in rows  # nothing is cut off at 80 columns
    assert "512×512 pixels" in done.stdout  # the crop
    assert "21 classes: " in done.stdout


def test_tool_refuses_in_one_line(call_tool):
    done = call_tool("model.py", "configs/unet_xception.yaml", "model.decodr=fpn")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.decodr: unknown key. Did you mean model.decoder?")
