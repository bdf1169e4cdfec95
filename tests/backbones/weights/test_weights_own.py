"""segzoo's own files: training checkpoints, run directories, and converted safetensors."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from segzoo.backbones import build_backbone, build_classifier
from segzoo.backbones.weights import adapt_channels, recipe_of
from segzoo.backbones.weights.convert import convert_weights
from segzoo.backbones.weights.load import foreign_names
from segzoo.backbones.weights.own import write_safetensors
from segzoo.backbones.weights.recognise import read_weights
from segzoo.backbones.weights.source import KERAS_RECIPE, TIMM_RECIPES, Dense
from segzoo.errors import CheckpointError, ConfigError

WIDTH = 0.1


def timm_file(path, variant="xception", classes=None):
    network = build_backbone(variant, width=WIDTH)
    own = network.state_dict()
    state = {theirs: own[ours].clone() for ours, theirs in foreign_names(network, "timm").built.items()}
    if classes:
        head = "fc" if variant == "xception" else "head.fc"
        channels = network.feature_specs[-1].channels
        state |= {f"{head}.weight": torch.rand(classes, channels), f"{head}.bias": torch.rand(classes)}
    torch.save(state, path)
    return path


def same(left, right):
    right = right.state_dict()
    return all(torch.equal(value, right[name]) for name, value in left.state_dict().items())


def test_checkpoints_and_run_directories(tiny_run):
    state = torch.load(tiny_run.run_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for path in (tiny_run.run_dir, tiny_run.run_dir / "checkpoints" / "best.ckpt"):
        network = build_backbone("xception", width=WIDTH, output_stride=8, weights=path)
        for name, value in network.state_dict().items():
            counter = name.endswith("num_batches_tracked")  # of batches; not loaded
            assert counter or torch.equal(value, state[f"segmenter.backbone.{name}"])
    with pytest.raises(CheckpointError, match="holds weights of xception, not of xception41"):
        build_backbone("xception41", width=WIDTH, weights=tiny_run.run_dir)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(ConfigError, match="a folder without checkpoints/best.ckpt"):
        build_backbone("xception", weights=tmp_path)


def test_conversion_keeps_everything(variant, tmp_path):
    source = timm_file(tmp_path / "timm.pth", variant, classes=5)
    convert_weights(source, tmp_path / "own.safetensors", width=WIDTH)
    with safe_open(tmp_path / "own.safetensors", framework="pt") as opened:
        described = json.loads(opened.metadata()["segzoo"])
    recipe = TIMM_RECIPES[variant]
    assert described == {
        "format_version": 1,
        "backbone": variant,
        "width": WIDTH,
        "source": "timm.pth",
        "recipe": {
            "norm_eps": recipe.norm_eps,
            "padding": recipe.padding,
            "stem_padding": recipe.stem_padding,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    }
    files = (source, tmp_path / "own.safetensors")
    assert same(*(build_backbone(variant, width=WIDTH, depth=3, weights=file) for file in files))
    assert recipe_of(variant, tmp_path / "own.safetensors") == recipe
    assert same(*(build_classifier(variant, 5, width=WIDTH, weights=file) for file in files))


def test_conversion_of_a_run(tiny_run, tmp_path, call_tool):
    target = tmp_path / "run.safetensors"
    result = call_tool("convert_weights.py", tiny_run.run_dir, target)
    assert result.returncode == 0, result.stderr
    assert "xception" in result.stdout
    assert read_weights(target).width == WIDTH
    assert same(*(build_backbone("xception", width=WIDTH, weights=source) for source in (tiny_run.run_dir, target)))


def test_conversion_of_chollets_weights(shared, tmp_path, call_tool):
    source, target = shared / "weights" / "xception_imagenet_notop.h5", tmp_path / "xception.safetensors"
    assert call_tool("convert_weights.py", source, target).returncode == 0
    assert recipe_of("xception", target) == KERAS_RECIPE
    assert same(*(build_backbone("xception", weights=file) for file in (source, target)))


def test_conversion_refuses(tmp_path, call_tool):
    source, target = timm_file(tmp_path / "w.pth"), tmp_path / "own.safetensors"
    assert call_tool("convert_weights.py", tmp_path / "none.pth", target).returncode == 2
    narrow = call_tool("convert_weights.py", source, target)
    assert narrow.returncode == 1
    assert "has another shape" in narrow.stderr
    assert not target.exists()
    target.write_bytes(b"mine")
    assert call_tool("convert_weights.py", source, target, "--width", WIDTH).returncode == 2
    assert target.read_bytes() == b"mine"
    missing = call_tool("convert_weights.py", source, tmp_path / "no" / "such" / "folder", "--width", WIDTH)
    assert missing.returncode == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_newer_format_is_refused(tmp_path):
    convert_weights(timm_file(tmp_path / "w.pth"), tmp_path / "own.safetensors", width=WIDTH)
    content = (tmp_path / "own.safetensors").read_bytes()
    quoted = b'\\"format_version\\": '
    assert quoted in content
    (tmp_path / "newer.safetensors").write_bytes(content.replace(quoted + b"1", quoted + b"9"))
    with pytest.raises(CheckpointError, match="format_version is 9; this segzoo reads up to 1"):
        read_weights(tmp_path / "newer.safetensors")


def test_other_channels_travel(tmp_path):
    """A converted file of a four-channel network fits four channels, not three."""
    source = timm_file(tmp_path / "w.pth")
    state = torch.load(source, weights_only=True)
    state["conv1.weight"] = adapt_channels(state["conv1.weight"], 4)
    torch.save(state, source)
    convert_weights(source, tmp_path / "own.safetensors", width=WIDTH)
    build_backbone("xception", width=WIDTH, in_channels=4, weights=tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="another shape"):
        build_backbone("xception", width=WIDTH, weights=tmp_path / "own.safetensors")


def test_layers_of_a_head_keep_their_order(tmp_path):
    weights = read_weights(timm_file(tmp_path / "timm.pth"))
    head = tuple(Dense(torch.full((2, 3), float(number)), None) for number in range(12))
    weights = replace(weights, tensors=build_backbone("xception", width=WIDTH).state_dict(), head=head)
    write_safetensors(weights, tmp_path / "own.safetensors")
    read = read_weights(tmp_path / "own.safetensors").head
    assert [layer.weight[0, 0].item() for layer in read] == list(range(12))
