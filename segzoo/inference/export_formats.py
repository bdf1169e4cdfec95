"""The files that a network is exported to: what goes in and comes out, and how each is written, run and read."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segzoo.backbones.spec import Network
from segzoo.checkpoint.format import FORMAT_VERSION, versions
from segzoo.checkpoint.read import AnyTrained
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.transforms.preprocessing import normalize
from segzoo.inference.engines import compiled_model, onnx_session
from segzoo.inference.onnx_graph import EXAMPLE_SIZE, IMAGE_AXES, OPSET, onnx_graph, portable

METADATA = "segzoo"
"""The entry of an exported file's metadata that holds ours, as JSON."""

Runner = Callable[[Tensor], Tensor]

_LETTERS = {"batch": "N", "classes": "C", "height": "H", "width": "W"}


@dataclass(frozen=True)
class ExportOptions:
    """What is taken into the graph.

    Args:
        preprocessing: it takes images as image libraries hand them out, (N, H, W, C) uint8, instead of normalised
            float32 (N, C, H, W). Networks for other than 8-bit RGB take float32 from 0 to 1.
        argmax: it gives class indices, uint8 (N, H, W), instead of logits, float32 (N, K, H, W); of a classifier int64
            (N,) instead of (N, K).
    """

    preprocessing: bool = False
    argmax: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """The image's axes by name."""
        return ("batch", "height", "width", "channels") if self.preprocessing else IMAGE_AXES

    @property
    def output(self) -> str:
        """The result's name."""
        return "classes" if self.argmax else "logits"

    def output_axes(self, network: Network) -> tuple[str, ...]:
        """The result's axes by name."""
        return tuple(axis for axis in network.score_axes if axis != "classes" or not self.argmax)


class ExportedNetwork(nn.Module):
    """The network with what the options take into it.

    Args:
        source: the network; this holds a copy.
        options: what is taken in; they say what the image and the result are.
    """

    def __init__(self, source: AnyTrained, options: ExportOptions) -> None:
        super().__init__()
        self.network = portable(source.network)
        self.options = options
        channels = len(source.preprocessing.mean)
        rgb8 = PixelFormat.of(source.config.data).is_rgb8
        zero, one = (torch.full((1, channels, 1, 1), value) for value in (0.0, 1.0))
        shift = normalize(zero, source.preprocessing)
        scale = normalize(one, source.preprocessing) - shift
        self.register_buffer("scale", scale / 255 if rgb8 else scale)
        self.register_buffer("shift", shift)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Logits or classes of an image."""
        if self.options.preprocessing:
            image = image.permute(0, 3, 1, 2).float() * self.scale + self.shift
        logits: Tensor = self.network(image)
        if not self.options.argmax:
            return logits
        classes = logits.argmax(1)
        return classes.to(torch.uint8) if classes.ndim > 1 else classes  # masks have 255 classes at most


def input_for(source: AnyTrained, options: ExportOptions, images: Tensor) -> Tensor:
    """Images as an exported network takes them.

    Shape: uint8 (N, C, H, W) to what `ExportOptions` says.
    """
    if not options.preprocessing:
        return normalize(images, source.preprocessing)
    pixels = images.permute(0, 2, 3, 1).contiguous()
    return pixels if PixelFormat.of(source.config.data).is_rgb8 else pixels.float() / 255


def example_input(source: AnyTrained, options: ExportOptions) -> Tensor:
    """Images of zeros to trace with."""
    channels = len(source.preprocessing.mean)
    return input_for(source, options, torch.zeros((2, channels, *EXAMPLE_SIZE), dtype=torch.uint8))


def metadata(source: AnyTrained, options: ExportOptions) -> str:
    """What an exported file says about itself, as JSON: enough to feed it and to name and colour what it gives."""
    example = example_input(source, options)
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "classes": list(source.labels.names),
        "palette": [list(color) for color in source.labels.palette],
        "ignore_index": source.labels.ignore_index,
        "multi_label": source.labels.multi_label,
        "value_range": source.config.data.value_range,
        "preprocessing": source.preprocessing.model_dump(mode="json"),
        "input": {
            "name": "image",
            "type": str(example.dtype).removeprefix("torch."),
            "layout": "NHWC" if options.preprocessing else "NCHW",
            "preprocessing_inside": options.preprocessing,
        },
        "output": {
            "name": options.output,
            "layout": "".join(_LETTERS[axis] for axis in options.output_axes(source.network)),
        },
        **source.config.data.model_dump(mode="json", include={"image_size", "center_crop"}),
        "versions": versions(),
    }
    return json.dumps(content)


@dataclass(frozen=True)
class ExportFormat:
    """One kind of file.

    Args:
        suffix: of the file.
        packages: what has to be installed, to write it and to run it once.
        write: writes a network to a path.
        load: gives what computes with the file.
        read: gives the metadata's JSON.
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


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Torch warns that torch.export is TorchScript's successor, and that sizes are traced, which is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _write_torch(source: AnyTrained, options: ExportOptions, path: Path) -> None:
    network = ExportedNetwork(source, options).eval()
    with torch.inference_mode(), _without_warnings():
        script = torch.jit.trace(network, example_input(source, options), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(script, str(path), _extra_files={METADATA: metadata(source, options)})


def _load_torch(path: Path) -> Runner:
    with _without_warnings():
        script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            # Optimised, it would plan anew for every size.
            result: Tensor = script(images)
            return result

    return run


def _read_torch(path: Path) -> str:
    found = {METADATA: ""}
    with _without_warnings():
        torch.jit.load(str(path), map_location="cpu", _extra_files=found)  # type: ignore[no-untyped-call]
    text: str | bytes = found[METADATA]
    return text.decode() if isinstance(text, bytes) else text


FORMATS = {
    "onnx": ExportFormat(".onnx", ("onnx", "onnxruntime"), _write_onnx, _load_onnx, _read_onnx, note=f"opset {OPSET}"),
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
