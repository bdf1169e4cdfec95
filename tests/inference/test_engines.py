"""Every engine computes what the trained network computes, at every size, or is refused in one line."""

import logging
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from segzoo.checkpoint.read import TrainedSegmenter, load_classifier, load_segmenter
from segzoo.errors import ConfigError
from segzoo.inference.engines import ENGINES, Engine, OnnxRuntimeEngine, OpenVinoEngine, TorchEngine, build_engine
from segzoo.models.agreement import compare, probe_image
from segzoo.training.train import TrainResult

SHAPES = ((1, 97, 129), (3, 97, 129), (1, 360, 480), (1, 513, 513), (3, 1, 5))
"""Batch, height and width; large batches of large images would show nothing more, and take most of the time."""


@pytest.fixture(scope="module")
def source(tiny_run) -> TrainedSegmenter:
    return load_segmenter(tiny_run.run_dir)


def reference(source: TrainedSegmenter, images: torch.Tensor) -> torch.Tensor:
    """The network itself, its input made by the textbook."""
    with torch.inference_mode():
        return source.segmenter((images.double() / 255 - 0.5).div(0.5).float())


@pytest.mark.parametrize("name", ENGINES)
def test_fp32_engines_agree_at_every_size_and_batch(source: TrainedSegmenter, name: str) -> None:
    engine = build_engine(source, name, device="cpu")
    assert (engine.name, engine.precision) == (name, "fp32")
    for batch, *size in SHAPES:
        images = probe_image(batch, 3, *size)
        expected, found = reference(source, images), engine(images)
        assert (found.dtype, found.shape) == (torch.float32, expected.shape)
        span = expected.max() - expected.min()
        assert (found - expected).abs().max() < 1e-4 * span, (batch, *size)
        torch.testing.assert_close(engine(images.float() / 255), found, atol=float(1e-4 * span), rtol=0)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_is_asked_for_and_close(source: TrainedSegmenter, name: str) -> None:
    try:
        engine = build_engine(source, name, precision="bf16", device="cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    assert engine.precision == "bf16"
    images = probe_image(2, 3, 97, 129)
    agreement = compare(reference(source, images), engine(images), "bf16")
    assert agreement.is_close, agreement
    assert agreement.difference is not None
    assert agreement.difference > 1e-5, "fp32 in disguise"


@pytest.mark.parametrize("name", ENGINES)
def test_engines_compute_classifiers(tiny_classifier_run: TrainResult, name: str) -> None:
    source = load_classifier(tiny_classifier_run.run_dir)
    images = probe_image(3, 3, 40, 48)
    with torch.inference_mode():
        expected = source.classifier((images.double() / 255 - 0.5).div(0.5).float())
    found = build_engine(source, name, device="cpu")(images)
    assert (found.dtype, found.shape) == (torch.float32, (3, 3))
    torch.testing.assert_close(found, expected, atol=float(1e-4 * (expected.max() - expected.min())), rtol=0)
    try:
        half = build_engine(source, name, precision="bf16", device="cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    assert (half(images) - expected).abs().max() < 5e-2 * (expected.max() - expected.min())


def test_the_source_stays_as_it_is(source: TrainedSegmenter) -> None:
    before = {key: value.clone() for key, value in source.segmenter.state_dict().items()}
    kinds = [type(module) for module in source.segmenter.modules()]
    engine = TorchEngine(source, "cpu", precision="bf16")
    engine(probe_image(1, 3, 32, 32))
    after = source.segmenter.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(before[key].dtype == after[key].dtype for key in before)
    assert kinds == [type(module) for module in source.segmenter.modules()]


def test_torch_is_folded(source: TrainedSegmenter) -> None:
    engine = TorchEngine(source, "cpu")
    image, kinds = probe_image(1, 3, 32, 32), []
    with register_module_forward_hook(lambda module, *_: kinds.append(type(module))):
        reference(source, image)
        assert nn.BatchNorm2d in kinds
        kinds.clear()
        engine(image)
    assert kinds
    assert nn.BatchNorm2d not in kinds


@pytest.mark.slow
def test_compiled_agrees(source: TrainedSegmenter) -> None:
    engine = TorchEngine(source, "cpu", compiled=True)
    for size in ((97, 129), (64, 80)):
        images = probe_image(1, 3, *size)
        assert compare(reference(source, images), engine(images)).is_close


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_missing_packages_are_one_line_that_says_what_to_install(
    source: TrainedSegmenter, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as caught:
        build_engine(source, name)
    assert caught.value.problems == [f"--engine: {name} needs {name}, not installed: pip install {name}"]
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=f"needs onnx and {name}, not installed: pip install onnx {name}"):
        build_engine(source, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "onnxruntim"}, "unknown engine 'onnxruntim'. Did you mean onnxruntime?"),
        ({"name": "torch", "precision": "fp16"}, "unknown precision 'fp16'"),
        ({"name": "onnxruntime", "precision": "bf16"}, "fp32 on the CPU, not in bf16"),
        ({"name": "openvino", "device": "cuda"}, "on the CPU here, not on cuda"),
        ({"name": "torch", "device": "gpu"}, "--device: gpu: "),
        ({"name": "torch", "device": "cuda:99"}, "--device: cuda:99: "),
    ],
)
def test_wrong_requests(source: TrainedSegmenter, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_engine(source, **arguments)


def set_times(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
    """Have each engine take so long, by the clock that is looked at."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    for kind in (TorchEngine, OnnxRuntimeEngine, OpenVinoEngine):

        def call(engine: Engine, images: torch.Tensor, honest: Callable = kind.__call__) -> torch.Tensor:
            now[0] += seconds[engine.name]
            return honest(engine, images)

        monkeypatch.setattr(kind, "__call__", call)


def test_auto_takes_the_fastest_and_says_so(
    source: TrainedSegmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    speed = {"torch": 3.0, "onnxruntime": 1.0, "openvino": 2.0}
    set_times(monkeypatch, speed)
    with caplog.at_level(logging.INFO, logger="segzoo"):
        assert build_engine(source, "auto", device="cpu").name == "onnxruntime"
    assert "engine: onnxruntime, fp32 (torch 3000 ms, onnxruntime 1000 ms, openvino 2000 ms" in caplog.text


def test_auto_leaves_out_what_is_wrong_or_missing(
    source: TrainedSegmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = OnnxRuntimeEngine.__call__
    monkeypatch.setattr(OnnxRuntimeEngine, "__call__", lambda self, images: honest(self, images).flip(1))
    set_times(monkeypatch, {"torch": 9.0, "onnxruntime": 1.0, "openvino": 1.0})
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.INFO, logger="segzoo"):
        assert build_engine(source, "auto", device="cpu").name == "torch"
    assert "not onnxruntime: it differs from the network" in caplog.text
    assert "not openvino: --engine: openvino needs openvino, not installed" in caplog.text
