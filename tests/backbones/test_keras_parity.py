"""Keras' Xception with its ImageNet weights, stage by stage, against what Keras itself computed."""

import numpy as np
import pytest
import torch

from segzoo.backbones import build_backbone

MODULES = {
    "block1": "stem",
    "block2": "entry_flow.0",
    "block3": "entry_flow.1",
    "block4": "entry_flow.2",
    "block12": "middle_flow.7",
    "block13": "exit_flow.0",
    "block14": "exit_flow.1",
}


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracles" / "xception_keras_features.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def weights(shared):
    return shared / "weights" / "xception_imagenet_notop.h5"


def stages(network, pixels):
    """The output of every stage that Keras names."""
    found = {}

    def keep(stage):
        def hook(module, inputs, output):
            found[stage] = output[1] if isinstance(output, tuple) else output

        return hook

    for stage, path in MODULES.items():
        network.get_submodule(path).register_forward_hook(keep(stage))
    with torch.no_grad():
        network(torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 127.5 - 1)
    return {stage: output[0].numpy() for stage, output in found.items()}


@pytest.mark.parametrize("photograph", ["a", "b"])
def test_every_stage_is_keras(oracle, weights, photograph):
    network = build_backbone("xception", padding="same", stem_padding="valid", weights=weights).eval()
    found = stages(network, oracle[f"{photograph}_image"])
    compared = [key for key in oracle if key.startswith(f"{photograph}_block")]
    assert len(compared) == {"a": 7, "b": 2}[photograph]
    for key in compared:
        stage = key.removeprefix(f"{photograph}_")
        ours = found[stage][::8] if key in ("a_block1", "a_block2") else found[stage]
        assert ours.shape == oracle[key].shape
        np.testing.assert_allclose(ours, oracle[key], rtol=0, atol=1e-4, err_msg=key)


def test_the_comparison_can_tell_paddings_apart(oracle, weights):
    """Symmetric padding gives other numbers, by whole units."""
    network = build_backbone("xception", padding="symmetric", stem_padding="valid", weights=weights).eval()
    found = stages(network, oracle["a_image"])
    assert np.abs(found["block14"] - oracle["a_block14"]).max() > 1
