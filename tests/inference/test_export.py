"""Exported files give torch's answers to programs that know nothing of segzoo, and say what they are."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

from segzoo.checkpoint.read import TrainedSegmenter, load_classifier, load_segmenter
from segzoo.errors import CheckpointError, ConfigError
from segzoo.inference import export_formats
from segzoo.inference.export import FORMATS, NAMES, export, read_metadata
from segzoo.models.agreement import Agreement, probe_image
from segzoo.training.train import TrainResult

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt"}


@pytest.fixture(scope="module")
def source(tiny_run) -> TrainedSegmenter:
    return load_segmenter(tiny_run.run_dir)


@pytest.fixture(autouse=True)
def _small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segzoo.inference.export.SIZES", ((97, 129), (64, 80)))


def run_file(path: Path, image: np.ndarray) -> np.ndarray:
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(str(path)).run(None, {"image": image})[0]
    if path.suffix == ".xml":
        core = openvino.Core()
        return core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    return torch.jit.load(path)(torch.from_numpy(image)).numpy()


@pytest.mark.parametrize("name", SUFFIXES)
def test_everything_inside(source: TrainedSegmenter, tmp_path: Path, name: str) -> None:
    """A picture as an array in, its classes out; and what they are called."""
    path = tmp_path / f"model{SUFFIXES[name]}"
    result = export(source, name, path, with_preprocessing=True, with_argmax=True)
    assert result.path == path
    assert len(result.checks) == 4
    assert all(check.agreement.is_close for check in result.checks)
    for shape in ((1, 97, 129, 3), (3, 70, 51, 3)):
        image = probe_image(shape[0], 3, *shape[1:3]).permute(0, 2, 3, 1).contiguous()
        found = run_file(path, image.numpy())
        with torch.inference_mode():
            logits = source.segmenter(image.permute(0, 3, 1, 2).float() / 127.5 - 1)
        assert (found.dtype, found.shape) == (np.uint8, shape[:3])
        assert (found == logits.argmax(1).numpy()).mean() > 0.9999
    said = read_metadata(path)
    assert said["classes"] == list(source.labels.names)
    assert said["palette"] == [list(color) for color in source.labels.palette]
    assert said["preprocessing"] == {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    assert said["format_version"] >= 1
    assert said["input"] == {"name": "image", "type": "uint8", "layout": "NHWC", "preprocessing_inside": True}
    assert said["output"] == {"name": "classes", "layout": "NHW"}


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_network_alone(source: TrainedSegmenter, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"model{SUFFIXES[name]}"
    export(source, name, path)
    image = torch.rand(2, 3, 75, 110) * 2 - 1
    with torch.inference_mode():
        expected = source.segmenter(image)
    np.testing.assert_allclose(run_file(path, image.numpy()), expected.numpy(), atol=1e-4)
    assert read_metadata(path)["input"]["layout"] == "NCHW"
    assert {file.name for file in tmp_path.iterdir()} == {path.name, *(f"model{end}" for end in FORMATS[name].beside)}


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_classifier(tiny_classifier_run: TrainResult, tmp_path: Path, name: str) -> None:
    """Scores of the network alone, at its image size and others; classes of arrays; what feeds it."""
    run, alone, inside = tiny_classifier_run.run_dir, f"alone{SUFFIXES[name]}", f"inside{SUFFIXES[name]}"
    network = load_classifier(run).classifier
    checks = [*export(run, name, tmp_path / alone).checks]
    checks += export(run, name, tmp_path / inside, with_preprocessing=True, with_argmax=True).checks
    assert all(check.agreement.is_close for check in checks)
    assert "of images of the same class" in str(checks[0])
    for shape in ((1, 40, 48, 3), (3, 70, 51, 3)):
        pixels = probe_image(shape[0], 3, *shape[1:3]).permute(0, 2, 3, 1).contiguous()
        image = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()
        with torch.inference_mode():
            scores = network(image).numpy()
        np.testing.assert_allclose(run_file(tmp_path / alone, image.numpy()), scores, atol=1e-4)
        classes = run_file(tmp_path / inside, pixels.numpy())
        assert (classes.dtype, classes.tolist()) == (np.int64, scores.argmax(1).tolist())
    said = read_metadata(tmp_path / inside)
    assert (said["classes"], said["image_size"], said["center_crop"]) == (["blue", "green", "red"], [40, 48], 0.875)
    assert (said["output"], said["palette"]) == ({"name": "classes", "layout": "N"}, [])
    assert read_metadata(tmp_path / alone)["output"] == {"name": "logits", "layout": "NC"}


def test_a_classifiers_folder(tiny_classifier_run: TrainResult, tmp_path: Path) -> None:
    result = export(tiny_classifier_run.run_dir, "safetensors", tmp_path / "model")
    assert {check.agreement.difference for check in result.checks} == {0.0}


def test_a_folder_loads_again(source: TrainedSegmenter, tmp_path: Path) -> None:
    result = export(source, "safetensors", tmp_path / "model")
    again = load_segmenter(tmp_path / "model").segmenter.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in source.segmenter.state_dict().items())
    assert {check.agreement.difference for check in result.checks} == {0.0}


@pytest.mark.parametrize("name", SUFFIXES)
def test_what_does_not_agree_is_not_written(
    source: TrainedSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    honest = export_formats.portable

    def wrong(segmenter: nn.Module) -> nn.Module:
        network = honest(segmenter)
        list(network.parameters())[-1].data[0] += 1.0
        return network

    monkeypatch.setattr(export_formats, "portable", wrong)
    with pytest.raises(CheckpointError, match="not written: it does not agree with torch: 1 × 97×129: logits within"):
        export(source, name, tmp_path / f"model{SUFFIXES[name]}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_agree_is_not_kept(
    source: TrainedSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segzoo.inference.export.compare", lambda *_: Agreement(0.5, 0.5, 0.5, 0.001))
    with pytest.raises(CheckpointError, match="it does not agree with torch"):
        export(source, "safetensors", tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(source: TrainedSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(torch.jit, "save", full)
    with pytest.raises(CheckpointError, match=r"model\.pt: not written \(PytorchStreamWriter"):
        export(source, "torch", tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_wrong_requests(source: TrainedSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown format 'onx'. Did you mean onnx?"):
        export(source, "onx", tmp_path / "model.onnx")
    (tmp_path / "there.pb").touch()
    with pytest.raises(ConfigError) as caught:
        export(source, "onnx", tmp_path / "there.pb")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--output", "--output"]
    (tmp_path / "model.bin").touch()
    with pytest.raises(ConfigError, match=r"model\.bin is there already"):
        export(source, "openvino", tmp_path / "model.xml")
    with pytest.raises(ConfigError, match="safetensors holds weights and no graph"):
        export(source, "safetensors", tmp_path / "folder", with_argmax=True)
    with pytest.raises(ConfigError, match="no exported file"):
        read_metadata(tmp_path / "there.pb")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(CheckpointError, match="holds no description"):
        read_metadata(tmp_path / "text.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="onnxruntime not installed: pip install onnxruntime"):
        export(source, "onnx", tmp_path / "model.onnx")


def test_the_tool_prints_the_agreement(call_tool, tiny_run, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.onnx"
    result = call_tool("export.py", tiny_run.run_dir, "--format", "onnx", "--output", path)
    assert result.returncode == 0, result.stderr
    assert "opset 17" in result.stdout
    assert "1 × 97×129: logits within" in result.stdout
    assert json.loads(FORMATS["onnx"].read(path))
    assert call_tool("export.py", tiny_run.run_dir, "--format", "onnx", "--output", path).returncode == 2


def test_openvinos_file_says_how_it_is_opened_in_float32(source: TrainedSegmenter, tmp_path: Path) -> None:
    """Opened plainly it computes in bfloat16 where the processor has it; the settings in the note are taken at word."""
    written = export(source, "openvino", tmp_path / "model.xml")
    settings = ast.literal_eval(written.note[written.note.index("{") : written.note.index("}") + 1])
    opened = openvino.Core().compile_model(str(written.path), "CPU", settings)
    assert opened.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_every_format_is_offered() -> None:
    assert NAMES == ("onnx", "openvino", "torch", "safetensors")
