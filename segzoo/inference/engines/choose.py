"""Which engine computes: the one asked for, or the fastest that agrees."""

import importlib
import logging
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from segzoo.checkpoint.read import AnyTrained
from segzoo.errors import ConfigError, data_errors_about, did_you_mean, first_line
from segzoo.inference.engines.agreement import compare, probe_image
from segzoo.inference.engines.base import Engine, Precision
from segzoo.inference.engines.onnx_runtime import OnnxRuntimeEngine
from segzoo.inference.engines.open_vino import OpenVinoEngine
from segzoo.inference.engines.pytorch import TorchEngine, plain_logits
from segzoo.tasks.scores import check_scores

_logger = logging.getLogger(__name__)

ENGINES = ("torch", "onnxruntime", "openvino")
AUTO = "auto"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")

_PACKAGES = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
_PROBE_SIZE = (256, 320)
_PROBE_RUNS = 3
_SMALL = (64, 64)


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
    if name == AUTO:
        return _race(source, precision, device)
    if name not in ENGINES:
        raise ConfigError(f"--engine: unknown engine {name!r}. {did_you_mean(name, (AUTO, *ENGINES))}")
    return _build(source, name, precision, device)


def missing(packages: Sequence[str]) -> list[str]:
    """Those of some packages that cannot be imported."""
    return [package for package in packages if not _imports(package)]


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
