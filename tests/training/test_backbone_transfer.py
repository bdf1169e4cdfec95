"""The classifier's checkpoint is a backbone, and a segmenter's backbone starts a classifier."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from segzoo.backbones import build_backbone, build_classifier
from segzoo.backbones.weights import recipe_of
from segzoo.backbones.weights.convert import convert_weights
from segzoo.checkpoint.read import read_checkpoint
from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.schema import RunConfig
from segzoo.errors import CheckpointError
from segzoo.training.run import prepare
from segzoo.training.stages import checked_stages, stage_configs
from segzoo.training.train import TrainResult, train

Config = Callable[..., RunConfig]
ClassifierConfig = Callable[..., ClassificationRunConfig]


@pytest.fixture(scope="module")
def source(tiny_classifier_config: ClassifierConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with settings of its own, averaged weights and two fully connected layers."""
    run_dir = tmp_path_factory.mktemp("runs") / "source"
    own = ("model.backbone.padding=same", "model.backbone.stem_padding=valid", "model.backbone.norm_eps=0.01")
    colors = "data.preprocessing={mean: [0.4, 0.5, 0.6], std: [0.1, 0.2, 0.3]}"
    others = ("optimizer.ema_decay=0.5", "model.fc_width=8", "trainer.max_steps=2")
    return train(tiny_classifier_config(f"run_dir={run_dir}", *own, colors, *others)).run_dir


def backbone_of(run_dir: Path, prefix: str) -> dict[str, Tensor]:
    """The best checkpoint's, read by torch alone."""
    state = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    start = f"{prefix}.backbone."
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}


def assert_bitwise(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    names = {name for name in expected if not name.endswith("num_batches_tracked")}
    assert len(names) > 150
    assert names <= found.keys()
    assert [name for name in names if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "unet"])
def test_classifier_to_segmenter(
    decoder: str, tiny_classifier_run: TrainResult, tiny_config: Config, caplog: pytest.LogCaptureFixture
):
    source = tiny_classifier_run.run_dir
    stride = 32 if decoder == "unet" else 8
    changes = (f"model.decoder={decoder}", f"model.output_stride={stride}", f"model.backbone.weights={source}")
    with caplog.at_level(logging.INFO, "segzoo"):
        task = prepare(with_starting_settings(tiny_config(*changes)), None)[2]
    expected = backbone_of(source, "classifier")
    assert_bitwise(task.segmenter.backbone.state_dict(), expected)
    said = caplog.text
    for name, value in expected.items():
        if not name.endswith("num_batches_tracked"):
            assert f"\n{name} {'×'.join(map(str, value.shape))}\n" in f"{said}\n"
    assert f"{source / 'checkpoints' / 'best.ckpt'}: the classifier's head is left aside" in said


def test_averaged_weights_are_the_backbone(source: Path, tiny_config: Config):
    """Those that were measured, and not those beside them."""
    task = prepare(with_starting_settings(tiny_config(f"model.backbone.weights={source}")), None)[2]
    content = read_checkpoint(source / "checkpoints" / "best.ckpt")
    stem = "classifier.backbone.stem.conv1.weight"
    assert_bitwise(task.segmenter.backbone.state_dict(), backbone_of(source, "classifier"))
    assert not torch.equal(content["state_dict"][stem], content["training_state_dict"][stem])


def test_segmenter_to_classifier(tiny_run: TrainResult, tiny_classifier_config: ClassifierConfig):
    task = prepare(tiny_classifier_config(f"model.backbone.weights={tiny_run.run_dir}"), None)[2]
    assert_bitwise(task.classifier.backbone.state_dict(), backbone_of(tiny_run.run_dir, "segmenter"))


def test_settings_come_along(source: Path, tiny_classifier_config: ClassifierConfig, tiny_config: Config):
    """Eps, padding and preprocessing; the stem's padding to a classifier only, for decoders need the padded one."""
    for make, stem in ((tiny_config, "padded"), (tiny_classifier_config, "valid")):
        config = with_starting_settings(make(f"model.backbone.weights={source}"))
        backbone = config.model.backbone
        assert (backbone.padding, backbone.norm_eps, backbone.stem_padding) == ("same", 0.01, stem)
        assert config.data.preprocessing.mean == (0.4, 0.5, 0.6)
    whole = with_starting_settings(tiny_classifier_config(f"model.weights={source}")).model.backbone
    assert (whole.padding, whole.stem_padding, whole.weights) == ("same", "valid", None)


def test_all_stages_keep_the_settings_of_the_first_ones_weights(source: Path, tiny_classifier_config: ClassifierConfig):
    config = tiny_classifier_config(f"model.backbone.weights={source}", "model.fc_width=8", "stages=[{}, {seed: 1}]")
    for stage in stage_configs(checked_stages(config)):
        backbone = stage.model.backbone
        assert (backbone.padding, backbone.norm_eps, backbone.stem_padding) == ("same", 0.01, "valid")


def test_whole_classifier_with_its_classes_and_with_others(
    tiny_classifier_run: TrainResult,
    tiny_classifier_config: ClassifierConfig,
    class_folder: Path,
    tmp_path: Path,
    caplog,
):
    state = read_checkpoint(tiny_classifier_run.run_dir / "checkpoints" / "best.ckpt")["state_dict"]
    start = f"model.weights={tiny_classifier_run.run_dir}"
    same = prepare(tiny_classifier_config(start), None)[2].state_dict()
    assert [key for key in state if not torch.equal(state[key], same[key])] == []
    for split in ("train", "val"):
        for name in ("blue", "green"):
            shutil.copytree(class_folder / split / name, tmp_path / split / name)
        shutil.copytree(class_folder / split / "red", tmp_path / split / "orange")
    with caplog.at_level(logging.INFO, "segzoo"):
        other = prepare(tiny_classifier_config(start, f"data.root={tmp_path}"), None)[2].state_dict()
    logits = {"classifier.logits.weight", "classifier.logits.bias"}
    # As many classes, but others: a head that only has the right shape would be wrong.
    assert {key for key in state if not torch.equal(state[key], other[key])} == logits
    assert "it has 3 classes and this run 3 others, so these start anew: logits.bias, logits.weight" in caplog.text


def test_whole_network_of_the_other_task_is_refused(
    tiny_run: TrainResult,
    tiny_classifier_run: TrainResult,
    tiny_config: Config,
    tiny_classifier_config: ClassifierConfig,
):
    for make, source in ((tiny_classifier_config, tiny_run), (tiny_config, tiny_classifier_run)):
        with pytest.raises(CheckpointError, match=r"trained for (seg|class).*: model\.backbone\.weights="):
            prepare(make(f"model.weights={source.run_dir}"), None)


def test_it_is_weights_wherever_these_are_asked_for(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """For `build_backbone`, for `build_classifier` with the head, and converted to safetensors."""
    expected = backbone_of(source, "classifier")
    assert_bitwise(build_backbone("xception", width=0.1, weights=source).state_dict(), expected)
    state = read_checkpoint(source / "checkpoints" / "best.ckpt")["state_dict"]
    convert_weights(source, tmp_path / "own.safetensors")
    for weights in (source, tmp_path / "own.safetensors"):
        own = build_classifier("xception", 3, width=0.1, fc_width=8, weights=weights).state_dict()
        counted = {key for key in own if not key.endswith("num_batches_tracked")}
        assert [key for key in counted if not torch.equal(own[key], state[f"classifier.{key}"])] == []
        assert recipe_of("xception", weights).padding == "same"
    assert "starts at random" not in caplog.text
