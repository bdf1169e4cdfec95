"""Weights of others are read strictly, or refused with what is wrong."""

import h5py
import pytest
import torch
from safetensors.torch import save_file

from segzoo.backbones import build_backbone, build_classifier
from segzoo.backbones.strides import plan_blocks
from segzoo.backbones.weights import adapt_channels
from segzoo.backbones.weights.keras import keras_names
from segzoo.backbones.weights.load import foreign_names
from segzoo.backbones.xception import XCEPTION
from segzoo.errors import CheckpointError, ConfigError

WIDTH = 0.1


@pytest.fixture
def state(variant):
    """A narrow variant's tensors under timm's names."""
    network = build_backbone(variant, width=WIDTH)
    names = foreign_names(network, "timm").built
    own = network.state_dict()
    return {theirs: own[ours].clone() for ours, theirs in names.items()}


@pytest.fixture
def saved(state, tmp_path):
    def save(change=lambda state: None, name="w.safetensors"):
        change(state)
        path = tmp_path / name
        (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
        return path

    return save


def first(state):
    return next(iter(state))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_every_tensor_is_used(variant, saved, state, name):
    network = build_backbone(variant, width=WIDTH, weights=saved(name=name))
    names = foreign_names(network, "timm").built
    own = network.state_dict()
    assert names.keys() == {key for key in own if not key.endswith("num_batches_tracked")}
    assert len(set(names.values())) == len(names)
    assert all(torch.equal(own[ours], state[theirs]) for ours, theirs in names.items())


def refuse(variant, path, message):
    with pytest.raises(CheckpointError) as caught:
        build_backbone(variant, width=WIDTH, weights=path)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]
    assert str(path) in caught.value.problems[0]


def test_missing_tensor(variant, saved, state):
    name = first(state)
    refuse(variant, saved(lambda state: state.pop(name)), f"has no tensor {name}")


def test_left_over_tensor(variant, saved):
    path = saved(lambda state: state.update(stray=torch.zeros(1)))
    refuse(variant, path, "has tensors this network has no place for: stray")


def test_wrong_shape(variant, saved, state):
    name = first(state)
    path = saved(lambda state: state.update({name: torch.zeros(8, 3, 5, 5)}))
    refuse(variant, path, "is (8, 3, 5, 5), not (8, 3, 3, 3)")


def test_values_that_are_not_finite(variant, saved, state):
    path = saved(lambda state: state[first(state)].fill_(float("nan")))
    refuse(variant, path, "values that are not finite in stem.conv1.weight")


@pytest.mark.parametrize("kind", [torch.float8_e5m2, torch.complex64, torch.int8])
def test_numbers_of_types_that_no_weights_have(variant, saved, state, kind):
    path = saved(lambda state: state.update({first(state): state[first(state)].to(kind)}), "w.pth")
    refuse(variant, path, "has a type that no weights have in stem.conv1.weight")


def test_many_problems_stay_short(tmp_path):
    state = {f"block12.rep.{number}.stray": torch.zeros(1) for number in range(50)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as caught:
        build_backbone("xception", width=WIDTH, weights=tmp_path / "w.safetensors")
    assert len(caught.value.problems) == 2
    assert "and 2" in caught.value.problems[0]
    assert all(len(problem) < 300 for problem in caught.value.problems)


def test_backbone_leaves_the_head_aside_and_a_classifier_takes_it(variant, saved, caplog):
    head = "fc" if variant == "xception" else "head.fc"
    channels = build_backbone(variant, width=WIDTH).feature_specs[-1].channels
    weight = torch.rand(5, channels)
    path = saved(lambda state: state.update({f"{head}.weight": weight, f"{head}.bias": torch.rand(5)}))
    backbone = build_backbone(variant, width=WIDTH, weights=path)
    same = build_classifier(variant, 5, width=WIDTH, weights=path)
    assert torch.equal(same.logits.weight, weight)
    assert not caplog.records
    for keywords, classes in (({}, 6), ({"fc_width": 8}, 5)):
        caplog.clear()
        other = build_classifier(variant, classes, width=WIDTH, weights=path, **keywords)
        assert torch.equal(other.backbone.stem.conv1.weight, backbone.stem.conv1.weight)
        assert "the classifier's head starts at random" in caplog.text
        assert f"{channels} → 5" in caplog.text


@pytest.mark.parametrize("depth", [1, 4])
def test_smaller_depth_reads_its_part(variant, saved, depth):
    path = saved()
    network = build_backbone(variant, width=WIDTH, depth=depth, weights=path)
    whole = build_backbone(variant, width=WIDTH, weights=path).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in network.state_dict().items())


def test_residuals_off_refuses_weights_of_shortcuts(variant, saved):
    with pytest.raises(CheckpointError, match="no place for: .*(skip|shortcut)"):
        build_backbone(variant, width=WIDTH, residual=False, weights=saved())


@pytest.mark.parametrize(
    ("content", "name", "error", "message"),
    [
        (None, "w.pth", ConfigError, "no such weights file"),
        (b"", "w.pth", CheckpointError, "an empty file"),
        (b"text", "w.safetensors", CheckpointError, "not recognised as weights"),
        (b"text", "w.h5", CheckpointError, "not recognised as weights"),
    ],
)
def test_foreign_files(tmp_path, content, name, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        build_backbone("xception", width=WIDTH, weights=tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "weights_only=False" not in str(caught.value)


def test_pickled_objects_are_refused_in_any_environment(tmp_path, monkeypatch):
    class Payload:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"a": Payload()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="refused, because"):
        build_backbone("xception", width=WIDTH, weights=tmp_path / "w.pth")
    assert not (tmp_path / "executed").exists()


def test_keras_holds_chollets_network_only(shared):
    path = shared / "weights" / "xception_imagenet_notop.h5"
    with pytest.raises(CheckpointError, match="holds weights of xception, not of xception41"):
        build_backbone("xception41", width=WIDTH, weights=path)
    with pytest.raises(CheckpointError, match="another shape"):
        build_backbone("xception", width=0.5, weights=path)


def test_keras_names_follow_the_session_count(tmp_path, shared):
    """A second model in one session calls its shortcuts conv2d_4 and so on: their order tells them apart."""
    path = tmp_path / "renumbered.h5"
    with h5py.File(shared / "weights" / "xception_imagenet_notop.h5") as source, h5py.File(path, "w") as target:
        layers = [name.decode() if isinstance(name, bytes) else name for name in source.attrs["layer_names"]]
        numbered = [name for name in layers if name.startswith("conv2d")]
        renamed = {name: f"conv2d_{index + 9}" for index, name in enumerate(numbered)}
        target.attrs["layer_names"] = [renamed.get(name, name).encode() for name in layers]
        for name in layers:
            source.copy(name, target, renamed.get(name, name))
    network = build_backbone("xception", weights=path)
    expected = build_backbone("xception", weights=shared / "weights" / "xception_imagenet_notop.h5")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))


def test_keras_names_cover_the_network():
    names = keras_names(plan_blocks(XCEPTION, 32))
    own = build_backbone("xception", width=WIDTH).state_dict()
    assert names.keys() == {key for key in own if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("variant", ["xception", "xception41p"])
@pytest.mark.parametrize("in_channels", [1, 2, 4, 12])
def test_other_channels_keep_the_gray_image(variant, saved, in_channels):
    """With equal channels, the adapted stem computes what RGB does, where the rule repeats whole R, G, B rounds."""
    path = saved()
    ours = build_backbone(variant, width=WIDTH, in_channels=in_channels, weights=path)
    rgb = build_backbone(variant, width=WIDTH, weights=path)
    gray = torch.rand(1, 1, 9, 9)
    adapted, expected = (net.stem.conv1(gray.expand(-1, net.in_channels, -1, -1)) for net in (ours, rgb))
    kernels = rgb.stem.conv1.weight
    if in_channels in (1, 12):
        torch.testing.assert_close(adapted, expected, atol=1e-5, rtol=1e-5)
    else:
        repeated = kernels[:, [0, 1, 2, 0][:in_channels]] * 3 / in_channels
        torch.testing.assert_close(ours.stem.conv1.weight, repeated)


def test_adapted_channels_are_timms():
    timm_adapt = pytest.importorskip("timm.models").adapt_input_conv
    kernels = torch.rand(8, 3, 3, 3)
    for in_channels in (1, 2, 3, 4, 12):
        torch.testing.assert_close(adapt_channels(kernels, in_channels), timm_adapt(in_channels, kernels))
