"""Preprocessing, eps and padding travel with weights into a run's configuration."""

import logging

import pytest
import torch

from segzoo.backbones import build_backbone
from segzoo.backbones.weights import with_weights_settings
from segzoo.backbones.weights.convert import convert_weights
from segzoo.backbones.weights.load import foreign_names
from segzoo.checkpoint.read import load_segmenter
from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.load import load_config
from segzoo.config.schema import Preprocessing
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter
from segzoo.training.resume import requested_config
from segzoo.training.train import train


def settings(config):
    backbone = config.model.backbone
    return backbone.norm_eps, backbone.padding, backbone.stem_padding


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("xception", "imagenet", (1e-3, "same", "padded")),
        ("xception", "tf_in1k", (1e-5, "symmetric", "padded")),
        ("xception65", "imagenet", (1e-3, "symmetric", "padded")),
        ("xception41p", "ra3_in1k", (1e-5, "symmetric", "padded")),
        ("xception", None, (None, "symmetric", "padded")),
    ],
)
def test_published_weights_set_what_is_not_set(tiny_config, caplog, name, weights, expected):
    weights = weights or "null"
    asked = (f"model.backbone.name={name}", "model.backbone.width=1", f"model.backbone.weights={weights}")
    config = with_weights_settings(tiny_config(*asked))
    assert settings(config) == expected
    assert config.data.preprocessing == Preprocessing()
    assert not caplog.records
    assert with_weights_settings(config) == config


def test_a_contradiction_is_kept_and_told(tiny_config, caplog):
    asked = (
        "model.backbone.width=1",
        "model.backbone.weights=imagenet",
        "model.backbone.norm_eps=0.5",
        "model.backbone.padding=symmetric",
        "model.backbone.stem_padding=valid",
        "data.preprocessing.mean=[0.4, 0.5, 0.6]",
    )
    config = with_weights_settings(tiny_config(*asked))
    assert settings(config) == (0.5, "symmetric", "valid")
    assert config.data.preprocessing.mean == (0.4, 0.5, 0.6)
    assert [record.getMessage() for record in caplog.records] == [
        "model.backbone.norm_eps is 0.5 as you ask, but the weights imagenet expect 0.001",
        "model.backbone.padding is symmetric as you ask, but the weights imagenet expect same",
        "data.preprocessing.mean is [0.4, 0.5, 0.6] as you ask, but the weights imagenet expect [0.5, 0.5, 0.5]",
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_weights_are_published_for_one_width(tiny_config):
    with pytest.raises(ConfigError, match="published for width 1 only"):
        with_weights_settings(tiny_config("model.backbone.weights=imagenet"))


def test_weights_of_another_width_are_refused_first(tiny_config, tiny_run, tmp_path):
    """In one line, before any data are read; once 231 shapes."""
    timm = tmp_path / "timm.pth"
    network = build_backbone("xception", width=0.5)
    names = foreign_names(network, "timm").built
    torch.save({theirs: network.state_dict()[ours] for ours, theirs in names.items()}, timm)
    for weights, width in ((tiny_run.run_dir, "0.1"), (timm, "0.5")):
        for key in ("model.backbone.weights", "model.weights")[: 2 if width == "0.1" else 1]:
            with pytest.raises(ConfigError) as caught:
                with_starting_settings(tiny_config("model.backbone.width=0.25", f"{key}={weights}"))
            (problem,) = caught.value.problems
            assert problem.startswith("model.backbone.width: 0.25, but ")
            assert f"holds a backbone of width {width}. Write model.backbone.width={width}," in problem


def test_a_run_hands_on_its_preprocessing(tiny_config, tmp_path):
    """Other preprocessing than the default goes from a run through its converted weights into the next run."""
    first = train(
        tiny_config(
            f"run_dir={tmp_path / 'first'}",
            "trainer.max_steps=1",
            "data.preprocessing.mean=[0.4, 0.5, 0.6]",
            "data.preprocessing.std=[0.2, 0.3, 0.4]",
            "model.backbone.norm_eps=0.002",
            "model.backbone.padding=same",
        )
    )
    convert_weights(first.run_dir, tmp_path / "own.safetensors")
    for weights in (first.run_dir, tmp_path / "own.safetensors"):
        asked = tiny_config(f"model.backbone.weights={weights}")
        config = with_weights_settings(asked)
        assert settings(config) == (0.002, "same", "padded")
        assert config.data.preprocessing == Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
        norm = build_segmenter(config.model, 3).backbone.stem.norm1
        assert norm.eps == 0.002
    assert load_segmenter(first.run_dir).segmenter.backbone.stem.norm1.eps == 0.002


def test_the_command_line_asks_for_it(tmp_path):
    network = build_backbone("xception", width=0.25)
    names = foreign_names(network, "timm").built
    torch.save({theirs: network.state_dict()[ours] for ours, theirs in names.items()}, tmp_path / "timm.pth")
    overrides = [f"model.backbone.weights={tmp_path / 'timm.pth'}"]
    assert load_config("configs/quickstart.yaml", overrides).model.backbone.norm_eps is None
    assert settings(with_weights_settings(requested_config("configs/quickstart.yaml", overrides))) == (
        1e-5,
        "symmetric",
        "padded",
    )
    with pytest.raises(ConfigError, match="no such weights file"):
        with_weights_settings(requested_config("configs/quickstart.yaml", ["model.backbone.weights=nowhere.pth"]))
