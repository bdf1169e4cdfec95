"""DeepLab's published networks: every map of them as TensorFlow's own graphs computed it, and what is made of them."""

import gzip
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_files
import torch
from torch import Tensor, nn

import segzoo
from segzoo.backbones import build_classifier
from segzoo.backbones.weights.deeplab import decoder_names
from segzoo.backbones.weights.tensorflow import read_tensorflow
from segzoo.checkpoint.deeplab import Protocol
from segzoo.checkpoint.read import load_published
from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.schema import ModelConfig
from segzoo.data.datasets import cityscapes, voc
from segzoo.errors import CheckpointError, ConfigError
from segzoo.inference.augment import TestTimeAugmentation
from segzoo.models.build import build_segmenter
from segzoo.training.run import prepare
from segzoo.training.train import train

CASES = [
    ("xception65", "os16_129x129", 16),
    ("xception65", "os16_161x193", 16),
    ("xception65", "os16_321x257", 16),
    ("xception65", "os8_129x129", 8),
    ("xception41", "os16_129x129", 16),
    ("xception71_dpc", "os16_129x129", 16),
    ("xception71_dpc", "os16_305x353", 16),
    ("xception71_dpc", "os8_161x193", 8),
]
CLOSE = 1e-4  # of an array's largest magnitude
UNDECIDED = 1e-3  # between the best two logits of a pixel
SMALL = ("model.backbone.width=0.0625", "model.deeplab.aspp_channels=32", "model.deeplab.decoder_channels=32")


@pytest.fixture(scope="module")
def oracles(shared: Path) -> Path:
    return shared / "oracles" / "tf_deeplab"


def normalised(pixels: np.ndarray, config: Any) -> Tensor:
    mean, std = (np.float32(values) for values in (config.data.preprocessing.mean, config.data.preprocessing.std))
    return torch.from_numpy((pixels / np.float32(255) - mean) / std).permute(2, 0, 1)[None]


def variables_of(index: Path) -> dict[str, np.ndarray]:
    return read_tensorflow(index, str(index))


def scope_of(name: str) -> str:
    """Where one of TensorFlow's maps leaves our network."""
    found = re.fullmatch(r"xception_\d\d/(\w+_flow)/block(\d)/unit_(\d+)/xception_module(/\w+)?", name)
    if found:
        flow, block, unit, rest = found.groups()
        module = f"backbone.{flow}.{int(unit if flow == 'middle_flow' else block) - 1}"
        layer = re.fullmatch(r"/separable_conv(\d)_(depthwise|pointwise)", rest or "")
        if layer is None:
            return module + (rest or "").replace("/", ".")
        return f"{module}.layers.{int(layer[1]) - 1}" + (".separable.norm" if layer[2] == "depthwise" else "")
    patterns = {
        r"meta_architecture/branch(\d)_pointwise": "decoder.aspp.branches.{}",
        r"(?:meta_architecture/)?concat_projection": "decoder.aspp.projection",
        r"image_pooling": "decoder.aspp.image_pooling",
        r"aspp0": "decoder.aspp.pointwise",
        r"aspp([123])_pointwise": "decoder.aspp.atrous.{-1}",
        r"aspp([123])_depthwise": "decoder.aspp.atrous.{-1}.depthwise_relu",
        r"decoder/decoder_conv(\d)_pointwise": "decoder.convolutions.{}",
        r"decoder/decoder_conv(\d)_depthwise": "decoder.convolutions.{}.depthwise_relu",
        r"decoder/feature_projection0": "decoder.low_level",
        r"logits/semantic": "decoder.logits",
    }
    for pattern, module in patterns.items():
        matched = re.fullmatch(pattern, name)
        if matched:
            numbers = [int(number) for number in matched.groups()]
            return module.replace("{-1}", str((numbers or [0])[0] - 1)).replace("{}", str((numbers or [0])[0]))
    raise KeyError(name)


def maps_of(network: nn.Module, image: Tensor, scopes: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The result, and what left the module of each scope."""
    found: dict[str, Tensor] = {}
    for scope in scopes:
        module = network.get_submodule(scope_of(scope))

        def keep(_: nn.Module, __: Any, out: Any, scope: str = scope) -> None:
            found[scope] = (out[1] if isinstance(out, tuple) else out)[0]

        module.register_forward_hook(keep)
    with torch.no_grad():
        return network(image)[0], found


def assert_close(name: str, found: Tensor, expected: np.ndarray) -> None:
    assert found.shape == expected.shape, name
    difference = np.abs(found.numpy() - expected).max()
    assert difference <= CLOSE * np.abs(expected).max(), (name, difference)


def assert_same_classes(logits: Tensor, expected: np.ndarray) -> None:
    """But where the best two scores are as good as equal."""
    best = logits.topk(2, dim=0)
    differs = best.indices[0].numpy() != expected
    assert (best.values[0] - best.values[1]).numpy()[differs].max(initial=0) < UNDECIDED


@pytest.mark.parametrize(("folder", "case", "stride"), CASES)
def test_every_map_of_tensorflows(folder: str, case: str, stride: int, oracles: Path):
    trained = load_published(oracles / folder, Protocol(output_stride=stride, canvas=(1, 1)))
    arrays = dict(np.load(oracles / folder / f"{case}.npz"))
    image, classes = arrays.pop("image"), arrays.pop("argmax")
    resized = arrays.pop("resized_logits[::10]", None)
    logits, maps = maps_of(trained.network, normalised(image, trained.config), list(arrays))
    assert len(maps) == len(arrays) > 3
    for name, expected in arrays.items():
        found = maps[name][:, :1, :1] if name == "image_pooling" else maps[name]  # it is spread already
        if "exit_flow/block2/" in name and name.endswith("_depthwise"):
            found = found.relu()  # in that block alone, a ReLU is behind
        assert_close(name, found, expected)
    if resized is not None:
        assert_close("resized_logits", logits[::10], resized)
    assert_same_classes(logits, classes)


def test_classifier(oracles: Path):
    arrays = dict(np.load(oracles / "xception41_imagenet" / "os32_129x129.npz"))
    network = build_classifier("xception41", 11, width=0.0625, weights=oracles / "xception41_imagenet").eval()
    image = torch.from_numpy(arrays.pop("image") / np.float32(127.5) - 1).permute(2, 0, 1)[None]
    ends = {name: arrays.pop(name)[:, 0, 0] for name in ("global_pool", "xception_41/logits", "predictions")}
    logits, maps = maps_of(network, image, list(arrays))
    for name, expected in arrays.items():
        assert_close(name, maps[name], expected)
    with torch.no_grad():
        assert_close("global_pool", network.backbone(image)[-1].mean((0, 2, 3)), ends["global_pool"])
    assert_close("logits", logits, ends["xception_41/logits"])
    assert_close("predictions", logits.softmax(0), ends["predictions"])


@pytest.mark.parametrize("file", ["model.ckpt", "frozen_inference_graph.pb"])
def test_canvas(file: str, oracles: Path):
    """What running the frozen graph gives for an image that is smaller than its canvas."""
    trained = load_published(oracles / "xception65" / file, Protocol(output_stride=8, canvas=(129, 129)))
    arrays = dict(np.load(oracles / "xception65" / "canvas129_os8_97x120.npz"))
    scopes = ["image_pooling", "logits/semantic"]
    logits, maps = maps_of(trained.network, normalised(arrays["image"], trained.config), scopes)
    assert_close("image_pooling", maps["image_pooling"][:, :1, :1], arrays["image_pooling"])
    assert_close("logits", maps["logits/semantic"], arrays["logits/semantic"])
    assert_close("probabilities", logits.softmax(0)[::4], arrays["probabilities[::4]"])
    np.testing.assert_array_equal(logits.argmax(0), arrays["predictions"])


def test_several_scales_and_mirrored(oracles: Path):
    """What the original's multi-scale graph gives on the canvas; another border or order is far from it."""
    trained = load_published(oracles / "xception65", Protocol(output_stride=8, canvas=(129, 129)))
    arrays = np.load(oracles / "xception65" / "canvas129_os8_97x120.npz")
    augmentation = TestTimeAugmentation(tuple(arrays["multi_scale/scales"].tolist()), flip=True)
    found = segzoo.Predictor(trained, tta=augmentation)(arrays["image"])
    assert (found.mask != arrays["multi_scale/argmax"]).sum() <= 2
    mean = arrays["multi_scale/mean_probabilities[::4]"]
    np.testing.assert_allclose(found.probabilities[::4], mean, rtol=0, atol=CLOSE)


def test_converted_is_a_model_to_predict_with(oracles: Path, tmp_path: Path, call_tool: Callable[..., Any]):
    """Widths, variant, pyramid and classes without an option; the folder gives what the frozen graph gives."""
    source, folder = oracles / "xception65", tmp_path / "saved"
    result = call_tool("convert_weights.py", source, folder, "--output-stride", 8, "--canvas", 129, 129)
    assert result.returncode == 0, result.stderr
    assert "deeplabv3plus with aspp on xception65" in result.stdout
    assert "evaluated at output stride 8 on a canvas of (129, 129)" in result.stdout
    arrays = np.load(source / "canvas129_os8_97x120.npz")
    predictor = segzoo.Predictor(folder)
    assert predictor.labels == voc.LABELS
    np.testing.assert_array_equal(predictor(arrays["image"]).mask, arrays["predictions"])
    card = (folder / "README.md").read_text()
    assert "It is the whole network of xception65/model.ckpt, converted and trained no further" in card.replace(
        "\\", ""
    )
    assert "By others." in card
    assert call_tool("convert_weights.py", source, folder).returncode == 2  # is there already


def test_what_the_shapes_say(oracles: Path, tmp_path: Path):
    trained = load_published(oracles / "xception71_dpc", Protocol())
    model = trained.config.model
    assert (model.backbone.name, model.backbone.width, model.deeplab.pyramid) == ("xception71", 0.0625, "dpc")
    assert (model.output_stride, model.eval_output_stride, model.canvas) == (16, None, (1025, 2049))
    assert trained.labels == cityscapes.LABELS
    assert trained.config.data.name == "cityscapes"
    assert load_published(oracles / "xception65", Protocol()).config.model.canvas == (513, 513)
    names = [f"thing {number}" for number in range(19)]
    assert load_published(oracles / "xception71_dpc", Protocol(class_names=names)).labels.names == tuple(names)


def test_ade20k_by_its_number_of_classes(tmp_path: Path, oracles: Path):
    variables = variables_of(oracles / "xception41" / "model.ckpt.index")
    logits = {"logits/semantic/weights": (1, 1, 32, 151), "logits/semantic/biases": (151,)}
    others = {name: np.zeros(shape, np.float32) for name, shape in logits.items()}
    trained = load_published(
        tensorflow_files.write_checkpoint(tmp_path / "x" / "model.ckpt", variables | others), Protocol()
    )
    assert trained.labels.names[:3] == ("other", "wall", "building")
    assert trained.labels.names[-1] == "flag"
    others = {name: array[..., :7] for name, array in others.items()}
    trained = load_published(
        tensorflow_files.write_checkpoint(tmp_path / "y" / "model.ckpt", variables | others), Protocol()
    )
    assert (trained.config.data.name, trained.labels.names[6]) == ("folder", "class_6")


def test_what_is_no_segmenter(oracles: Path, tmp_path: Path, call_tool: Callable[..., Any]):
    with pytest.raises(CheckpointError, match=r"holds no segmenter, but a backbone, .*model\.backbone\.weights="):
        segzoo.load_segmenter(oracles / "xception41_imagenet")
    with pytest.raises(ConfigError, match="2 names of classes for a network of 21"):
        load_published(oracles / "xception41", Protocol(class_names=["a", "b"]))
    variables = variables_of(oracles / "xception41" / "model.ckpt.index")
    without = {name: value for name, value in variables.items() if not name.startswith("aspp2_pointwise")}
    with pytest.raises(CheckpointError, match="6 missing"):
        load_published(tensorflow_files.write_checkpoint(tmp_path / "a" / "x", without), Protocol())
    more = variables | {"decoder/feature_projection1/weights": np.zeros((1, 1, 2, 2), np.float32)}
    with pytest.raises(CheckpointError, match="has variables that no network here has: decoder/feature_projection1/we"):
        load_published(tensorflow_files.write_checkpoint(tmp_path / "b" / "x", more), Protocol())
    flat = variables | {"concat_projection/weights": np.zeros(5, np.float32)}
    with pytest.raises(CheckpointError, match="no DeepLabV3\\+, which has a convolution concat_projection/weights"):
        load_published(tensorflow_files.write_checkpoint(tmp_path / "c" / "x", flat), Protocol())
    infinite = variables | {"logits/semantic/biases": np.full(21, np.nan, np.float32)}
    with pytest.raises(CheckpointError, match="1 not finite"):
        load_published(tensorflow_files.write_checkpoint(tmp_path / "d" / "x", infinite), Protocol())
    for words in (("--width", 2, tmp_path / "e"), ("--canvas", 9, 9, tmp_path / "e.safetensors")):
        assert call_tool("convert_weights.py", oracles / "xception41", words[-1], *words[:-1]).returncode == 2
    assert call_tool("convert_weights.py", oracles / "README.md", tmp_path / "e").returncode == 2
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("listed", "classes", "pyramid"), [("xception65_voc", 21, "aspp"), ("xception71_dpc_cityscapes", 19, "dpc")]
)
def test_full_width(listed: str, classes: int, pyramid: str, oracles: Path):
    """Behind the backbone: the original graphs' own lists of names and shapes at full width."""
    rows = gzip.decompress((oracles / "variables" / f"{listed}.tsv.gz").read_bytes()).decode().splitlines()
    shapes = {name: tuple(map(int, shape.split("x"))) for name, shape in (row.split("\t") for row in rows)}
    behind = {name: shape for name, shape in shapes.items() if not name.startswith("xception_")}
    names = decoder_names(dict.fromkeys(behind, torch.empty(0)))
    assert set(names.values()) == behind.keys()
    config = ModelConfig.model_validate({"deeplab": {"pyramid": pyramid}})
    with torch.device("meta"):
        decoder = build_segmenter(config, classes, pretrained=False).decoder.state_dict()
    assert {name: decoder[name].numel() for name in names} == {
        ours: int(np.prod(behind[theirs])) for ours, theirs in names.items()
    }
    assert {name for name in decoder if not name.endswith("num_batches_tracked")} == names.keys()


@pytest.mark.parametrize("converted", [False, True])
def test_fine_tuning_with_other_classes(converted: bool, oracles: Path, tmp_path: Path, tiny_config: Any, caplog):
    """From the checkpoint itself, or the folder made of it: two steps, and what starts anew is said."""
    source = oracles / "xception65"
    if converted:
        source = segzoo.save_model(source, tmp_path / "saved")
    own = ("model.decoder=deeplabv3plus", "model.backbone.name=xception65", *SMALL, "trainer.max_steps=2")
    config = tiny_config(f"model.weights={source}", f"run_dir={tmp_path / 'run'}", *own)
    with caplog.at_level(logging.INFO, "segzoo"):
        result = train(config)
    assert "it has 21 classes and this run" in caplog.text
    assert "others, so these start anew: decoder.logits.bias, decoder.logits.weight" in caplog.text
    assert result.run_dir.joinpath("checkpoints", "last.ckpt").is_file()
    task = prepare(with_starting_settings(tiny_config(f"model.weights={source}", *own)), None)[2]
    original = segzoo.load_segmenter(oracles / "xception65").segmenter.state_dict()
    started = task.segmenter.state_dict()
    differ = {name for name, value in original.items() if not torch.equal(value, started[name])}
    assert differ == {"decoder.logits.weight", "decoder.logits.bias"}


def test_fine_tuning_from_a_backbone_alone(oracles: Path, tmp_path: Path, tiny_config: Any, caplog):
    weights = oracles / "xception41_imagenet"
    own = ("model.decoder=deeplabv3plus", "model.backbone.name=xception41", *SMALL, "trainer.max_steps=2")
    with caplog.at_level(logging.INFO, "segzoo"):
        train(tiny_config(f"model.backbone.weights={weights}", f"run_dir={tmp_path / 'run'}", *own))
    assert "420 tensors of the backbone loaded" in caplog.text
    assert "the classifier's head is left aside" in caplog.text
    with pytest.raises(CheckpointError, match=r"holds no segmenter, but a backbone"):
        train(tiny_config(f"model.weights={weights}", f"run_dir={tmp_path / 'other'}", *own))
