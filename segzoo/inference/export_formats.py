"""The files that a network is exported to: how each is written, run and asked about itself."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from segzoo.checkpoint.read import AnyTrained
from segzoo.inference.engines.onnx_graph import OPSET, onnx_graph
from segzoo.inference.engines.onnx_runtime import onnx_session
from segzoo.inference.engines.open_vino import compiled_model
from segzoo.inference.export_network import METADATA, ExportedNetwork, ExportOptions, example_input, metadata

Runner = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportFormat:
    """One kind of file.

    Args:
        suffix: of the file.
        packages: that have to be installed, to write it and to run it once.
        write: writes a network to a path.
        load: what computes with the file.
        read: the metadata's JSON.
        beside: suffixes of files that belong to it.
        note: what it is, for the report.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Callable[[AnyTrained, ExportOptions, Path], None]
    load: Callable[[Path], Runner]
    read: Callable[[Path], str]
    beside: tuple[str, ...] = ()
    note: str = ""


def _graph(source: AnyTrained, options: ExportOptions) -> bytes:
    network = ExportedNetwork(source, options).eval()
    example = example_input(source, options)
    return onnx_graph(
        network, example, options.output, axes=options.axes, output_axes=options.output_axes(source.network)
    )


def _write_onnx(source: AnyTrained, options: ExportOptions, path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(_graph(source, options))
    onnx.helper.set_model_props(model, {METADATA: metadata(source, options)})
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def _load_onnx(path: Path) -> Runner:
    session = onnx_session(str(path), one_size=False)
    return lambda images: torch.from_numpy(session.run(None, {"image": images.contiguous().numpy()})[0])


def _read_onnx(path: Path) -> str:
    import onnx

    properties = onnx.load_model(str(path), load_external_data=False).metadata_props
    return next((entry.value for entry in properties if entry.key == METADATA), "")


def _write_openvino(source: AnyTrained, options: ExportOptions, path: Path) -> None:
    import openvino

    model = openvino.Core().read_model(_graph(source, options))
    model.set_rt_info(metadata(source, options), [METADATA])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _load_openvino(path: Path) -> Runner:
    model = compiled_model(str(path), "fp32")
    return lambda images: torch.from_numpy(model(images.contiguous().numpy())[0])


def _read_openvino(path: Path) -> str:
    import openvino

    model = openvino.Core().read_model(str(path))
    return str(model.get_rt_info([METADATA]).value) if model.has_rt_info([METADATA]) else ""


def _write_torch(source: AnyTrained, options: ExportOptions, path: Path) -> None:
    network = ExportedNetwork(source, options).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.export is its successor, and that sizes are traced, as is meant
        script = torch.jit.trace(network, example_input(source, options), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(script, str(path), _extra_files={METADATA: metadata(source, options)})


def _load_torch(path: Path) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            # Optimised, it would plan anew for every size.
            result: Tensor = script(images)
            return result

    return run


def _read_torch(path: Path) -> str:
    found = {METADATA: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        torch.jit.load(str(path), map_location="cpu", _extra_files=found)  # type: ignore[no-untyped-call]
    text: str | bytes = found[METADATA]
    return text.decode() if isinstance(text, bytes) else text


FORMATS = {
    "onnx": ExportFormat(
        ".onnx",
        ("onnx", "onnxruntime"),
        _write_onnx,
        _load_onnx,
        _read_onnx,
        note=f"opset {OPSET}",
    ),
    "openvino": ExportFormat(
        ".xml",
        ("onnx", "openvino"),
        _write_openvino,
        _load_openvino,
        _read_openvino,
        beside=(".bin",),
        note="weights in float32; OpenVINO computes in bfloat16 where the processor has it, unless it is compiled with "
        'core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
    ),
    "torch": ExportFormat(
        ".pt",
        (),
        _write_torch,
        _load_torch,
        _read_torch,
        note="TorchScript; torch.export's graphs are not free in size, for padding to a multiple is nothing at some",
    ),
}
