"""One batch through the network: every engine and precision, and the baseline with every switch that its users have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laboratory.benchmarks.machine import Way, waiting
from laboratory.benchmarks.subjects import CHANNELS, Subject, Subjects, as_trained, numbered_labels
from laboratory.benchmarks.switches import Switched, Switches
from segzoo.config.schema import RunConfig
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError
from segzoo.inference.engines import (
    Engine,
    TorchEngine,
    build_engine,
    compiled_model,
    missing,
    onnx_session,
)
from segzoo.inference.onnx_graph import onnx_graph
from segzoo.models.agreement import PRECISIONS, Precision, probe_image

BASELINE_SWITCHES = (
    Switches(),
    Switches(channels_last=True),
    Switches(compiled=True),
    Switches(autocast=True),
    Switches(channels_last=True, autocast=True),
    Switches(channels_last=True, bfloat16=True),
    Switches(compiled=True, autocast=True),
    Switches(channels_last=True, compiled=True, bfloat16=True),
)
"""What users of a network in torch try; the first is what all rows are compared with."""

_RUNTIMES: tuple[tuple[str, Precision], ...] = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))


@dataclass(frozen=True)
class Inference:
    """One way of computing one network's logits.

    Args:
        subject: the network.
        config: says how pixels become input.
        batch: images.
        size: height and width of them in pixels.
        device: where to compute.
    """

    subject: Subject
    config: RunConfig
    batch: int
    size: int
    device: str

    def macs(self) -> int:
        """Multiply-adds that it has to compute."""
        return self.subject.macs(self.batch, self.size)

    def plain_network(self) -> nn.Module:
        """The network by itself."""
        return self.subject.fitted(self.subject.network(), self.size)

    def pixels(self) -> Tensor:
        """The images, uint8."""
        return probe_image(self.batch, CHANNELS, self.size, self.size)

    def images(self) -> Tensor:
        """The images, normalised."""
        return normalize(self.pixels(), self.config.data.preprocessing)

    def run(self, way: Way) -> Way:
        """A way that returns when all is computed."""
        return waiting(way, torch.device(self.device))


@dataclass(frozen=True)
class WithSwitches(Switched, Inference):
    """Torch with switches, normalised images in memory in the order and type that they ask for."""

    switches: Switches

    def prepare(self) -> Way:
        """Build the network; compile it if asked."""
        network = self.switches.ready(self.plain_network(), self.device)
        images = self.switches.ready_image(self.images(), self.device)

        @torch.inference_mode()
        def way() -> Tensor:
            with self.switches.on(self.device):
                logits: Tensor = network(images)
            return logits

        return self.run(way)


@dataclass(frozen=True)
class WithEngine(Inference):
    """One of our engines, from images in bytes."""

    engine: str
    precision: Precision
    compiled: bool = False

    @property
    def way(self) -> str:
        """Which engine."""
        return f"engine {self.engine}{', compiled' if self.compiled else ''}"

    def prepare(self) -> Way:
        """Build the network and the engine."""
        source = as_trained(self.subject.network(), self.config, numbered_labels(self.config))
        engine: Engine
        if self.compiled:
            engine = TorchEngine(source, self.device, precision=self.precision, compiled=True)
        else:
            engine = build_engine(source, self.engine, precision=self.precision, device=self.device)
        pixels = self.pixels()
        return self.run(lambda: engine(pixels))


@dataclass(frozen=True)
class Exported(Inference):
    """The network written to ONNX by torch, as it is, for images of this size, and run by a runtime."""

    runtime: str
    precision: Precision

    compiled = False

    @property
    def way(self) -> str:
        """Which runtime."""
        return f"exported, {self.runtime}"

    def prepare(self) -> Way:
        """Export, and load into the runtime."""
        absent = missing(["onnx", self.runtime])
        if absent or self.device != "cpu":
            raise ConfigError(f"{self.way}: {' and '.join(absent)} not installed" if absent else "it runs on the CPU")
        images = self.images().contiguous()
        axes = ("n", "c", "h", "w")  # none of them free
        graph = onnx_graph(self.plain_network(), images, "logits", axes=axes, output_axes=axes)
        run = self._onnxruntime(graph, images) if self.runtime == "onnxruntime" else self._openvino(graph, images)
        return lambda: torch.from_numpy(run())

    def _onnxruntime(self, graph: bytes, images: Tensor) -> Way:
        session = onnx_session(graph, one_size=True)
        return lambda: session.run(None, {"image": images.numpy()})[0]

    def _openvino(self, graph: bytes, images: Tensor) -> Way:
        model = compiled_model(graph, self.precision)
        return lambda: model(images.numpy())[0]


InferenceCase = WithSwitches | WithEngine | Exported


def inference_cases(
    subjects: Subjects,
    config: RunConfig,
    *,
    batch: int,
    size: int,
    device: str,
    engines: Sequence[str],
    compiled: bool,
) -> list[InferenceCase]:
    """All ways; the baseline's eager float32 comes first.

    Args:
        subjects: the networks.
        config: says how pixels become input.
        batch: images.
        size: height and width of them in pixels.
        device: where to compute.
        engines: ours to measure.
        compiled: also what torch.compile makes, which takes minutes before it starts.
    """
    place = (config, batch, size, device)
    cases: list[InferenceCase] = []
    cases += [WithSwitches(subjects.baseline, *place, switches) for switches in BASELINE_SWITCHES]
    cases += [Exported(subjects.baseline, *place, *runtime) for runtime in _RUNTIMES if runtime[0] in engines]
    cases += _engine_cases(subjects.baseline, place, engines)
    for subject in subjects.ours:
        cases += [WithSwitches(subject, *place, Switches()), *_engine_cases(subject, place, engines)]
    return [case for case in cases if compiled or not case.compiled]


def _engine_cases(
    subject: Subject, place: tuple[RunConfig, int, int, str], engines: Sequence[str]
) -> Iterator[InferenceCase]:
    for precision in PRECISIONS:
        for engine in engines:
            yield WithEngine(subject, *place, engine, precision)
            if engine == "torch":
                yield WithEngine(subject, *place, engine, precision, compiled=True)
