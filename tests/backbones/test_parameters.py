"""Numbers of parameters, and one state for every output stride."""

import pytest
import timm
import torch

from segzoo.backbones import build_backbone, build_classifier


def trainable(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@pytest.fixture(autouse=True)
def _meta():
    """Shapes are enough here."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_chollets_count(output_stride):
    assert trainable(build_backbone("xception", output_stride=output_stride)) == 20_806_952
    assert trainable(build_classifier("xception", output_stride=output_stride)) == 22_855_952


def test_aligned_counts_are_timms(variant):
    theirs = timm.create_model("legacy_xception" if variant == "xception" else variant)
    assert trainable(build_classifier(variant)) == trainable(theirs)
    assert trainable(build_backbone(variant)) == trainable(theirs) - trainable(theirs.get_classifier())


def test_one_state_for_every_output_stride(variant):
    shapes = [
        {name: value.shape for name, value in build_backbone(variant, output_stride=stride).state_dict().items()}
        for stride in (8, 16, 32)
    ]
    assert shapes[0] == shapes[1] == shapes[2]
