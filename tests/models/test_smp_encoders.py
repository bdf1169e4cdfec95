"""segzoo's backbones as SMP's encoders: SMP's own contract tests, and every decoder of SMP."""

import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

import segzoo
from segzoo.backbones import build_backbone
from segzoo.backbones.weights import recipe_of
from segzoo.errors import CheckpointError, ConfigError
from segzoo.models.smp.encoders import SegzooEncoder

VARIANTS = ("xception", "xception41", "xception41p", "xception65", "xception65p", "xception71")
DECODERS = ("Unet", "UnetPlusPlus", "FPN", "PSPNet", "PAN", "Linknet", "MAnet", "UPerNet", "DeepLabV3", "DeepLabV3Plus")
SIZE = 128  # PAN's pyramid needs it


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """The real names, and narrow networks for the tests that only need the wiring."""
    segzoo.register_smp_encoders()
    for name in VARIANTS:
        entry = {"encoder": SegzooEncoder, "params": {"name": name, "width": 0.125}, "pretrained_settings": {}}
        smp.encoders.encoders[f"narrow-{name}"] = entry
    yield
    for name in VARIANTS:
        del smp.encoders.encoders[f"narrow-{name}"]


@pytest.fixture(params=VARIANTS)
def encoder_name(request):
    return f"narrow-{request.param}"


def get_encoder(name, **keywords):
    return smp.encoders.get_encoder(name, **keywords)


def test_every_variant_is_registered_once():
    before = dict(smp.encoders.encoders)
    segzoo.register_smp_encoders()
    assert before == smp.encoders.encoders
    assert {f"segzoo-{name}" for name in VARIANTS} <= set(smp.encoders.get_encoder_names())


def test_importing_segzoo_leaves_smp_alone():
    code = "import sys, segzoo; sys.exit('segmentation_models_pytorch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# SMP's contract, as its own tests put it.


def test_forward_and_backward(encoder_name):
    encoder = get_encoder(encoder_name, in_channels=3, encoder_weights=None)
    features = encoder.forward(torch.rand(2, 3, 64, 64))
    assert len(features) == 6
    features[-1].mean().backward()
    assert encoder.backbone.stem.conv1.weight.grad is not None


@pytest.mark.parametrize("in_channels", [1, 4, 12])
def test_in_channels(encoder_name, in_channels):
    encoder = get_encoder(encoder_name, in_channels=in_channels, encoder_weights=None).eval()
    image = torch.rand(1, in_channels, 64, 64)
    features = encoder(image)
    assert features[0] is image
    assert encoder.out_channels[0] == in_channels


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_depth(encoder_name, depth):
    encoder = get_encoder(encoder_name, depth=depth, encoder_weights=None).eval()
    features = encoder(torch.rand(1, 3, 64, 64))
    assert [64 // feature.shape[2] for feature in features] == [1, 2, 4, 8, 16, 32][: depth + 1]
    assert [feature.shape[1] for feature in features] == list(encoder.out_channels)
    assert encoder.output_stride == 2**depth


@pytest.mark.parametrize("depth", [0, 6])
def test_invalid_depth(encoder_name, depth):
    with pytest.raises(ValueError, match="depth"):
        get_encoder(encoder_name, depth=depth, encoder_weights=None)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated(encoder_name, output_stride):
    encoder = get_encoder(encoder_name, output_stride=output_stride, encoder_weights=None).eval()
    features = encoder(torch.rand(1, 3, 64, 64))
    assert [64 // feature.shape[2] for feature in features] == [min(s, output_stride) for s in (1, 2, 4, 8, 16, 32)]
    assert encoder.output_stride == output_stride


def test_features_are_activated(encoder_name):
    features = get_encoder(encoder_name).eval()(torch.rand(1, 3, 64, 64) - 0.5)
    assert all((feature >= 0).all() for feature in features[1:])


def test_make_dilated_plans_around_the_same_parameters():
    encoder = SegzooEncoder("xception", width=0.125).eval()
    parameters, state = list(encoder.parameters()), encoder.state_dict()
    strided = encoder(torch.rand(1, 3, 64, 64))[-1]
    encoder.make_dilated(16)
    assert all(a is b for a, b in zip(parameters, encoder.parameters(), strict=True))
    assert state.keys() == encoder.state_dict().keys()
    assert not encoder.backbone.training
    assert encoder(torch.rand(1, 3, 64, 64))[-1].shape[-1] == 2 * strided.shape[-1]
    with pytest.raises(ValueError, match="16 or 8"):
        encoder.make_dilated(4)


def test_set_in_channels_keeps_the_rest():
    encoder = SegzooEncoder("xception41", width=0.125)
    kernels, rest = encoder.backbone.stem.conv1.weight.detach().clone(), list(encoder.parameters())[1:]
    encoder.set_in_channels(12)
    assert torch.allclose(encoder.backbone.stem.conv1.weight, kernels.repeat(1, 4, 1, 1) / 4)
    assert all(a is b for a, b in zip(rest, list(encoder.parameters())[1:], strict=True))
    encoder.set_in_channels(5, pretrained=False)
    assert encoder(torch.rand(2, 5, 64, 64))[0].shape[1] == 5


@pytest.mark.parametrize("change", [lambda e: e.make_dilated(8), lambda e: e.set_in_channels(4)])
def test_planning_anew_keeps_what_is_frozen(change):
    encoder = SegzooEncoder("xception", width=0.125)
    encoder.backbone.stem.conv1.requires_grad_(False)
    frozen = [parameter.requires_grad for parameter in encoder.parameters()]
    change(encoder)
    assert [parameter.requires_grad for parameter in encoder.parameters()] == frozen
    encoder.backbone.freeze()
    encoder.set_in_channels(12)
    encoder.train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.backbone.training


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("narrow-xception", 8),
        ("narrow-xception41p", 16),
        pytest.param("narrow-xception", 32, marks=pytest.mark.slow),
        pytest.param("narrow-xception41", 16, marks=pytest.mark.slow),
        pytest.param("narrow-xception71", 8, marks=pytest.mark.slow),
    ],
)
def test_scripting_and_export(name, output_stride):
    """SMP marks what its encoders can do; ours say the same, and do it."""
    encoder = get_encoder(name, output_stride=output_stride).eval()
    assert encoder._is_torch_scriptable
    assert encoder._is_torch_exportable
    assert encoder._is_torch_compilable
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = encoder(image)
        scripted = torch.jit.script(encoder)(image)
        exported = torch.export.export(encoder, (image,), strict=False).module()(image)
    for feature, *others in zip(expected, scripted, exported, strict=True):
        assert all((other - feature).abs().max() <= 1e-5 * feature.abs().max() for other in others)


@pytest.mark.slow
def test_compiling(encoder_name):
    encoder = get_encoder(encoder_name).eval()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    assert len(compiled(torch.rand(1, 3, 64, 64))) == 6


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_whole_model_scripts():
    model = smp.DeepLabV3Plus("narrow-xception", encoder_weights=None, encoder_output_stride=8).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(torch.jit.script(model)(image), model(image), atol=1e-5)


def test_freezing():
    model = smp.Unet("narrow-xception", encoder_weights=None)
    model.freeze_encoder()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model.train()
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    after = model.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    model.unfreeze_encoder()
    model.train()(torch.rand(2, 3, 64, 64))
    assert not torch.equal(before["backbone.stem.norm1.running_mean"], after["backbone.stem.norm1.running_mean"])


@pytest.mark.parametrize(
    "name", ["narrow-xception", "narrow-xception41p", pytest.param("narrow-xception71", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder(decoder, name):
    strides = {"DeepLabV3": (8, 16), "DeepLabV3Plus": (8, 16)}.get(decoder, (None,))
    for stride in strides:
        keywords = {} if stride is None else {"encoder_output_stride": stride}
        model = getattr(smp, decoder)(name, encoder_weights=None, classes=3, **keywords)
        logits = model(torch.rand(2, 3, SIZE, SIZE))
        assert logits.shape == (2, 3, SIZE, SIZE)
        logits.square().mean().backward()
        assert model.encoder.backbone.stem.conv1.weight.grad.isfinite().all()


def test_a_decoder_of_small_depth_has_no_idle_parameters():
    model = smp.PSPNet("narrow-xception65", encoder_weights=None)
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


# Weights.


@pytest.fixture(scope="module")
def imagenet(shared):
    return str(shared / "weights" / "xception_imagenet_notop.h5")


@pytest.mark.parametrize("in_channels", [3, 12])
def test_imagenet_weights_from_a_file(imagenet, in_channels):
    model = smp.DeepLabV3Plus(
        "segzoo-xception", encoder_weights=None, encoder_output_stride=16, in_channels=in_channels
    ).eval()
    model.encoder.load_weights(imagenet)
    ours = build_backbone("xception", output_stride=16, weights=imagenet, in_channels=in_channels).eval()
    image = torch.rand(1, in_channels, 64, 64)
    with torch.no_grad():
        features = model.encoder(image)
        assert all(torch.equal(a, b.relu()) for a, b in zip(features[1:], ours(image), strict=True))
        assert model(image).shape == (1, 1, 64, 64)


def test_weights_that_do_not_fit(imagenet, tmp_path):
    encoder = get_encoder("segzoo-xception")
    with pytest.raises(ConfigError, match="no such"):
        encoder.load_weights(str(tmp_path / "none.pth"))
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="w.safetensors: "):
        encoder.load_weights(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("xception", lambda: smp.encoders.get_encoder("xception", weights=None)),
        ("xception41p", lambda: timm.create_model("xception41p")),
    ],
)
def test_named_weights_go_smps_way(name, source, tmp_path, monkeypatch):
    """`encoder_weights="imagenet"` downloads a state dict with names of SMP or timm; here the download is ready."""
    state = source().state_dict()
    save_file(state, tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(
        smp.encoders,
        "hf_hub_download",
        lambda repo_id, filename, revision: asked.append(repo_id) or str(tmp_path / filename),
    )
    model = smp.Unet(f"segzoo-{name}", in_channels=1)  # "imagenet" is SMP's default
    assert set(asked) == {"smp-hub/xception.imagenet" if name == "xception" else "timm/xception41p.ra3_in1k"}
    kernels = state["conv1.weight" if name == "xception" else "stem.0.conv.weight"]
    assert torch.allclose(model.encoder.backbone.stem.conv1.weight, kernels.sum(1, keepdim=True), atol=1e-6)


def test_a_model_is_saved_and_loaded(tmp_path):
    model = smp.DeepLabV3Plus("segzoo-xception", encoder_weights=None, encoder_output_stride=16, in_channels=4).eval()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    other = smp.DeepLabV3Plus("segzoo-xception", encoder_weights=None, encoder_output_stride=8, in_channels=4).eval()
    other.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


# SMP's own encoders, as their users' checkpoints hold them.


@pytest.fixture(scope="module", params=["xception", "tu-xception65", "tu-xception41p", "tu-legacy_xception"])
def theirs(request):
    """A U-Net of SMP on its own encoder, its norms scattered."""
    return request.param, smp.Unet(request.param, encoder_weights=None).eval()


@pytest.mark.parametrize("kind", ["plain", "lightning", "compiled", "safetensors"])
def test_checkpoints_of_smps_users_are_read(theirs, kind, scatter, tmp_path, caplog):
    """Measured: their features to 3e-7 of the largest."""
    name, model = theirs
    torch.manual_seed(1)
    scatter(model)
    state, path = model.state_dict(), tmp_path / "theirs.ckpt"
    if kind == "safetensors":
        save_file(state, path)
    else:
        prefix = {"plain": "", "lightning": "model.", "compiled": "module._orig_mod."}[kind]
        state = {prefix + key: value for key, value in state.items()}
        torch.save({"state_dict": state, "epoch": 3} if kind == "lightning" else state, path)
    variant = name.removeprefix("tu-").removeprefix("legacy_")
    with caplog.at_level("INFO"):
        recipe = recipe_of(variant, path)
    assert f"{sum('encoder.' not in key for key in state)} tensors beside " in caplog.text
    assert recipe.stem_padding == ("valid" if name == "tu-legacy_xception" else "padded")
    ours = build_backbone(
        variant, weights=path, norm_eps=recipe.norm_eps, padding=recipe.padding, stem_padding=recipe.stem_padding
    ).eval()
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        expected, found = model.encoder(image)[-1], ours(image)[-1].relu()
    assert expected.std() > 0
    assert (found - expected.relu()).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", VARIANTS)
def test_checkpoints_with_our_encoders_are_read(name, tmp_path):
    model = smp.Unet(f"narrow-{name}", encoder_weights=None)
    for path, state in ((tmp_path / "unet.pth", model), (tmp_path / "backbone.pth", model.encoder.backbone)):
        torch.save(state.state_dict(), path)
        ours = build_backbone(name, width=0.125, weights=path)
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), model.encoder.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="another shape, as a backbone of another width has") as caught:
        build_backbone(name, width=0.5, weights=path)
    assert len(caught.value.problems) == 1
