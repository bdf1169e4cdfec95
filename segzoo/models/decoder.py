"""What a decoder is, and decoders by their names: from the backbone's taps to class scores of the image's size."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from torch import Tensor, nn

from segzoo.backbones import FeatureSpec
from segzoo.config.model import OutputStride
from segzoo.config.schema import ModelConfig
from segzoo.config.sections import Options, PartRegistry


class Decoder(nn.Module, ABC):
    """Turns taps into logits. Subclasses are built from `FeatureSpec`s, before any tensor exists.

    Shape:
        features: five tensors (N, C_i, ceil(H / s_i), ceil(W / s_i)), shallow to deep, before their ReLU
        unless their `FeatureSpec.activated`. Result: logits (N, num_classes, H, W).
    """

    size_multiple: int = 1
    """Image sizes have to be multiples of this, plus `size_remainder`; `Segmenter` pads to it."""

    size_remainder: int = 0
    """0 or 1: resizing with aligned corners loses nothing at sizes k·stride + 1."""

    aligned_stride: int | None = None
    """Image pixels between two scores, where corners are aligned whenever sizes change; None where they are not."""

    minimum_size: int = 1
    """Images have to be at least this high and wide; `Segmenter` pads to it."""

    follows_stride: bool = True
    """Whether it computes the same at another output stride, on a finer or coarser grid; else its own convolutions on
    the dilated taps see another extent of the image there."""

    @abstractmethod
    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits of the padded image's `size` (height, width)."""


DecoderBuilder = Callable[[Sequence[FeatureSpec], int, ModelConfig], Decoder]
"""(taps, num_classes, configuration) -> decoder; raises ConfigError where they do not fit together.

At another output stride it has to build the same parameters, under the same names: `model.eval_output_stride` builds
it a second time, with that stride for `model.output_stride`, around the parameters of the first.
"""

BuilderT = TypeVar("BuilderT", bound=Callable[..., Decoder])
"""A `DecoderBuilder`, which has the decoder's options as a fourth argument where it was registered with some."""


@dataclass(frozen=True)
class RegisteredDecoder:
    """A decoder as its registry knows it: how to build it, and the output strides that it works at."""

    build: DecoderBuilder
    output_strides: tuple[int, ...]


DECODERS = PartRegistry[RegisteredDecoder](ModelConfig)


def register_decoder(
    name: str,
    *,
    options: type[Options] | None = None,
    reads: Iterable[str] | None = None,
    output_strides: tuple[int, ...] = get_args(OutputStride),
    replace: bool = False,
) -> Callable[[BuilderT], BuilderT]:
    """Make a decoder of your own available as `model.decoder: name`.

    Args:
        name: what configurations call it.
        options: its options, a class that extends `segzoo.Section`, with a default for each. They are the keys
            `model.NAME.*` of a configuration, and the builder gets them as a fourth argument.
        reads: keys of the model section that only some decoders read, and this one does, such as `deeplab`; None
            without options says that it may read any.
        output_strides: the ones that it works at; others are refused before anything is built.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken, or options that no configuration can hold.
    """

    def register(build: BuilderT) -> BuilderT:
        def with_options(taps: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> Decoder:
            own = () if options is None else (config.part(name, options),)
            return build(taps, num_classes, config, *own)

        decoder = RegisteredDecoder(with_options, output_strides)
        DECODERS.add_part(name, decoder, options, reads, replace=replace)
        return build

    return register
