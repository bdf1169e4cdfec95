"""What computes a trained network's logits: torch, ONNX Runtime or OpenVINO; the one asked for, or the fastest."""

import importlib
import logging
import statistics
import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from segzoo.backbones.spec import check_scores
from segzoo.checkpoint.read import AnyTrained
from segzoo.cpu.bf16 import prepacked, split_first_convolution, split_pixels, to_bf16
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError, data_errors_about, did_you_mean, first_line
from segzoo.inference.onnx_graph import network_graph, portable
from segzoo.models.agreement import PRECISIONS, Precision, compare, probe_image
from segzoo.models.folding import folded

_logger = logging.getLogger(__name__)

ENGINES = ("torch", "onnxruntime", "openvino")

_AUTO = "auto"
_PACKAGES = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_PROBE_SIZE = (256, 320)
_PROBE_RUNS = 3
_SMALL = (64, 64)


class Engine(Protocol):
    """A trained network, ready to compute.

    `name` and `precision` say what computes, for reports.
    """

    name: str
    precision: Precision

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images, preprocessing included.

        Args:
            images: uint8, or float32 from 0 to 1, on any device.

        Shape: (N, C, H, W) of any height and width to float32, of the axes in `Network.score_axes`, on the engine's own
        device.
        """
        ...


class TorchEngine:
    """Torch, with BatchNorm folded into the convolutions and in channels-last memory order.

    Precision bf16 is that of weights and activations, but for what `cpu.bf16` keeps exact; on CPUs oneDNN's own order
    of weights makes it fast.

    Args:
        source: the network; it stays as it is, this is a copy.
        device: where to compute; None takes a GPU where there is one. "mps" is not tested.
        precision: "bf16" is fast where the processor has instructions for it, and slow where it has none.
        compiled: let torch.compile write kernels, for each size anew: the first image of a size takes up to minutes,
            from the ninth size on it is computed without, and a C++ compiler has to be there.

    Raises:
        ConfigError: no such device, or bf16 on a GPU that does not have it.
    """

    name = "torch"

    def __init__(
        self,
        source: AnyTrained,
        device: str | torch.device | None = None,
        *,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        self.device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision: Precision = precision
        if precision == "bf16" and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError("--precision: this GPU has no bf16. Take fp32.")
        self._preprocessing = source.preprocessing
        network = folded(source.network)
        self._split = precision == "bf16" and split_first_convolution(network)
        self._type = torch.float32
        if precision == "bf16":
            self._type = torch.bfloat16
            network = to_bf16(network)
        network = network.to(device=self.device).to(memory_format=torch.channels_last)
        # Measured: in fp32 torch's own order of weights is faster. torch.compile writes its own.
        if self.device.type == "cpu" and precision == "bf16" and not compiled:
            network = prepacked(network, source.network.backbone.in_channels * (3 if self._split else 1))
        self._network = torch.compile(network, dynamic=False) if compiled else network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits, see `Engine`."""
        pixels = normalize(images.to(self.device), self._preprocessing)
        pixels = split_pixels(pixels) if self._split else pixels
        logits: Tensor = self._network(pixels.to(self._type).contiguous(memory_format=torch.channels_last))
        return logits.float()


def usable_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Raises:
        ConfigError: it is not, or torch knows none of that name.
    """
    try:
        found = torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:  # the first from a torch without CUDA
        raise ConfigError(f"--device: {device}: {first_line(error)}") from None
    if found.type == "meta":
        raise ConfigError("--device: meta computes nothing. Take cpu or cuda.")
    return found


class OnnxRuntimeEngine:
    """ONNX Runtime on as many threads as torch has, in fp32, the only precision it computes in on CPUs.

    Raises:
        ConfigError: it is not installed, or the network cannot be written as ONNX.
    """

    name = "onnxruntime"
    precision: Precision = "fp32"

    def __init__(self, source: AnyTrained) -> None:
        graph = network_graph(portable(source.network), source.network.backbone.in_channels, source.network.score_axes)
        self._session = onnx_session(graph, one_size=False)
        self._preprocessing = source.preprocessing

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, see `Engine`."""
        pixels = normalize(images.cpu(), self._preprocessing).contiguous()
        try:
            (logits,) = self._session.run(None, {"image": pixels.numpy()})
        except Exception as error:  # its own types, which are no RuntimeError
            raise RuntimeError(first_line(error)) from error
        return torch.from_numpy(logits)


def onnx_session(model: bytes | str, *, one_size: bool) -> Any:
    """What ONNX Runtime computes a graph with, on the CPU.

    Args:
        model: the graph, or its file's path.
        one_size: all images have one size, for which a plan of the memory pays; it would make one for each.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings are about nodes that it removes
    options.enable_mem_pattern = one_size
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OpenVinoEngine:
    """OpenVINO on as many threads as torch has.

    Args:
        source: the network.
        precision: OpenVINO is always told, for left alone it takes bf16 where the processor has it.

    Raises:
        ConfigError: it is not installed, the network cannot be written as ONNX, or bf16 on a processor without it.
    """

    name = "openvino"

    def __init__(self, source: AnyTrained, *, precision: Precision = "fp32") -> None:
        self.precision: Precision = precision
        network = portable(source.network)
        self._split = precision == "bf16" and split_first_convolution(network)
        channels = source.network.backbone.in_channels * (3 if self._split else 1)
        self._model = compiled_model(network_graph(network, channels, source.network.score_axes), precision)
        self._preprocessing = source.preprocessing

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, see `Engine`."""
        pixels = normalize(images.cpu(), self._preprocessing)
        pixels = split_pixels(pixels) if self._split else pixels
        return torch.from_numpy(self._model(pixels.contiguous().numpy())[0])


def compiled_model(model: bytes | str, precision: Precision) -> Any:
    """A network as OpenVINO computes it on the CPU.

    Args:
        model: an ONNX graph, or the path of OpenVINO's own file.
        precision: of its numbers.

    Raises:
        ConfigError: bf16 on a processor without it, where OpenVINO would quietly compute in fp32; or OpenVINO has no
            kernel for a part of the network in this precision.
    """
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError("--precision: this processor has no bf16. Take fp32.")
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        return core.compile_model(core.read_model(model), "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"--engine openvino: OpenVINO cannot run this network in {precision} here ({reason}). "
            "Take another --precision or --engine."
        ) from None


@torch.inference_mode()
def plain_logits(source: AnyTrained, images: Tensor) -> Tensor:
    """What every engine is held to: the network as it was trained, in float32, without any of their changes.

    Shape: images (N, C, H, W), uint8 or float32 from 0 to 1, to float32 logits, on the CPU.
    """
    logits: Tensor = source.network(normalize(images.cpu(), source.preprocessing))
    return logits


def build_engine(
    source: AnyTrained,
    name: str = "torch",
    *,
    precision: Precision = "fp32",
    device: str | torch.device | None = None,
) -> Engine:
    """Make a trained network ready to compute.

    Args:
        source: the network, on the CPU; it stays as it is.
        name: torch, onnxruntime or openvino; or auto: the fastest of them that is installed, can compute this network
            and agrees with it on a probe image. It takes as long as building all of them, and says in the log which
            it took.
        precision: fp32 or bf16.
        device: where to compute; None takes a GPU where there is one. onnxruntime and openvino compute on the CPU.

    Raises:
        ConfigError: an unknown name; not installed; a precision or a device it does not have; a network that it
            cannot compute.
        DataError: scores that are no numbers, where the engine would hide it.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision: unknown precision {precision!r}. {did_you_mean(precision, PRECISIONS)}")
    if name == _AUTO:
        return _race(source, precision, device)
    if name not in ENGINES:
        raise ConfigError(f"--engine: unknown engine {name!r}. {did_you_mean(name, (_AUTO, *ENGINES))}")
    return _build(source, name, precision, device)


def missing(packages: Sequence[str]) -> list[str]:
    """Those of some packages that cannot be imported."""
    return [package for package in packages if not _imports(package)]


def fastest(source: AnyTrained, engines: Sequence[Engine]) -> Engine:
    """The quickest on a probe image of those that agree with the network; it is said in the log.

    Args:
        source: the network, on the CPU.
        engines: made of it; the first is taken where none agrees.
    """
    probe = probe_image(1, len(source.preprocessing.mean), *_PROBE_SIZE)
    expected = plain_logits(source, probe)
    agreeing = [engine for engine in engines if _agrees(engine, expected, probe)] or [engines[0]]
    seconds = {engine: _seconds(engine, probe) for engine in agreeing}
    best = min(seconds, key=lambda engine: seconds[engine])
    raced = ", ".join(f"{engine.name} {1000 * seconds[engine]:.0f} ms" for engine in seconds)
    _logger.info("engine: %s, %s (%s an image of %d×%d)", best.name, best.precision, raced, *_PROBE_SIZE)
    return best


def _build(source: AnyTrained, name: str, precision: Precision, device: str | torch.device | None) -> Engine:
    if name == "torch":
        return TorchEngine(source, device, precision=precision)
    absent = missing(_PACKAGES[name])
    if absent:
        raise ConfigError(
            f"--engine: {name} needs {' and '.join(absent)}, not installed: pip install {' '.join(absent)}"
        )
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise ConfigError(f"--engine: {name} computes on the CPU here, not on {device}. Take torch.")
    if name == "openvino":
        with data_errors_about([source.path]):  # its ReLU makes 0 of NaN, which nobody sees afterwards
            check_scores(plain_logits(source, probe_image(1, len(source.preprocessing.mean), *_SMALL)))
        return OpenVinoEngine(source, precision=precision)
    if precision != "fp32":
        raise ConfigError(f"--precision: onnxruntime computes in fp32 on the CPU, not in {precision}. Take openvino.")
    return OnnxRuntimeEngine(source)


def _race(source: AnyTrained, precision: Precision, device: str | torch.device | None) -> Engine:
    """The quickest of the engines that agree; torch without a race where it computes on a GPU."""
    torch_engine = TorchEngine(source, device, precision=precision)
    if torch_engine.device.type != "cpu":
        _logger.info("engine: torch, %s, on %s; the others compute on the CPU", precision, torch_engine.device)
        return torch_engine
    others = [engine for name in ENGINES[1:] if (engine := _attempt(source, name, precision)) is not None]
    return fastest(source, [torch_engine, *others])


def _attempt(source: AnyTrained, name: str, precision: Precision) -> Engine | None:
    try:
        return _build(source, name, precision, "cpu")
    except Exception as error:  # each library has errors of its own
        _logger.info("engine: not %s: %s", name, first_line(error))
        return None


def _agrees(engine: Engine, expected: Tensor, probe: Tensor) -> bool:
    agreement = compare(expected, engine(probe), engine.precision)
    if not agreement.is_close:
        _logger.warning("engine: not %s: it differs from the network: %s", engine.name, agreement)
    return agreement.is_close


def _seconds(engine: Engine, probe: Tensor) -> float:
    engine(probe)
    times = []
    for _ in range(_PROBE_RUNS):
        start = time.perf_counter()
        engine(probe)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _imports(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True
