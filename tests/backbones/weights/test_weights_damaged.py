"""Ten damaged files: one precise line each, nothing loaded, nothing executed."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from segzoo.backbones import build_backbone
from segzoo.backbones.weights.load import foreign_names
from segzoo.errors import CheckpointError

WIDTH = 0.1


class Payload:
    """Runs a command where a pickle reader lets it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


@pytest.fixture
def state():
    network = build_backbone("xception", width=WIDTH)
    own = network.state_dict()
    return {theirs: own[ours].clone() for ours, theirs in foreign_names(network, "timm").built.items()}


def truncated(state, path):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-2000])


def truncated_safetensors(state, path):
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:-2000])


def missing(state, path):
    del state["block5.rep.1.pointwise.weight"]
    torch.save(state, path)


def additional(state, path):
    save_file(state | {"block5.rep.1.pointwise.bias": torch.zeros(8)}, path)


def wrong_shape(state, path):
    torch.save(state | {"bn4.weight": torch.zeros(7)}, path)


def nan(state, path):
    state["block3.skipbn.running_var"][0] = float("nan")
    torch.save(state, path)


def pickled_code(state, path):
    torch.save(state | {"stray": Payload(f"touch {path.parent / 'executed'}")}, path)


def plain_pickle(state, path):
    path.write_bytes(pickle.dumps(Payload(f"touch {path.parent / 'executed'}")))


def web_page(state, path):
    path.write_text("\n<!DOCTYPE html>\n<html><title>404 Not Found</title></html>")


def empty(state, path):
    path.touch()


def another_architecture(state, path):
    resnet = pytest.importorskip("torchvision").models.resnet18()
    torch.save(resnet.state_dict(), path)


def wrong_variant(state, path):
    network = build_backbone("xception65", width=WIDTH)
    own = network.state_dict()
    save_file({theirs: own[ours] for ours, theirs in foreign_names(network, "timm").built.items()}, path)


def truncated_keras(state, path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))


MESSAGES = {
    truncated: "a damaged archive (File is not a zip file); is it cut off?",
    truncated_safetensors: "damaged safetensors",
    truncated_keras: "cannot be read as Keras weights",
    missing: "has no tensor block5.rep.1.pointwise.weight",
    additional: "has tensors this network has no place for: block5.rep.1.pointwise.bias",
    wrong_shape: "has another shape: exit_flow.1.layers.1.norm.weight is (7,), not (208,)",
    nan: "has values that are not finite in entry_flow.2.shortcut.norm.running_var",
    pickled_code: "refused, because it is no file of tensors and plain values only",
    plain_pickle: "refused, because it is no file of tensors and plain values only",
    web_page: "a web page, not weights: the download went wrong",
    empty: "an empty file",
    another_architecture: "another architecture, no Xception: its 122 tensors are conv1.weight, bn1.weight",
    wrong_variant: "holds weights of xception65, not of xception",
}


@pytest.mark.parametrize("damage", MESSAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".h5"])
def test_damaged(damage, suffix, state, tmp_path, monkeypatch):
    """In the environment, too, that turns torch's safe reading off."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / f"weights{suffix}"
    damage(state, path)
    with pytest.raises(CheckpointError) as caught:
        build_backbone("xception", width=WIDTH, weights=path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: {MESSAGES[damage]}")
    assert "\n" not in problem
    assert len(problem) < 300 + len(str(path))
    assert not (tmp_path / "executed").exists()


def test_a_refused_file_changes_nothing(state, tmp_path):
    from segzoo.backbones.weights import load_weights

    network = build_backbone("xception", width=WIDTH)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    missing(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError):
        load_weights(network, tmp_path / "w.pth")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("first_byte", [0x80, 0x50, 0x88])
def test_safetensors_may_begin_like_another_format(state, tmp_path, first_byte):
    """The file begins with the length of its header: 0x80 is how pickles begin, too."""
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    longer = length + (first_byte - length) % 256
    path.write_bytes(longer.to_bytes(8, "little") + content[8 : 8 + length].ljust(longer) + content[8 + length :])
    network = build_backbone("xception", width=WIDTH, weights=path)
    assert torch.equal(network.stem.conv1.weight, state["conv1.weight"])
