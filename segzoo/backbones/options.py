"""What a backbone is built from besides its table of blocks, checked once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self, TypedDict, get_args

from segzoo.config.fields import MAX_BANDS, MAX_MULTIPLIER, MAX_SEGMENTS, MAX_WIDTH, MIN_WIDTH
from segzoo.errors import ConfigError, did_you_mean, shortened

OutputStride = Literal[8, 16, 32]
Padding = Literal["symmetric", "same"]
StemPadding = Literal["padded", "valid"]
NormName = Literal["batch", "group", "frozen"]
DepthwiseActivation = Literal["none", "relu", "elu"]

_CHOICES = {
    "padding": get_args(Padding),
    "stem_padding": get_args(StemPadding),
    "norm": get_args(NormName),
    "depthwise_activation": get_args(DepthwiseActivation),
}
_MOST = {"in_channels": MAX_BANDS, "depth_multiplier": MAX_MULTIPLIER, "channel_segments": MAX_SEGMENTS}


@dataclass(frozen=True)
class BackboneOptions:
    """The keywords of `build_backbone`, which documents them and holds their defaults.

    Raises:
        ConfigError: values out of range, one line for each.
    """

    output_stride: int
    depth: int
    in_channels: int
    width: float
    padding: Padding
    stem_padding: StemPadding
    norm: NormName
    norm_momentum: float
    norm_eps: float | None
    residual: bool
    depthwise_activation: DepthwiseActivation
    depth_multiplier: int
    pointwise_first: bool
    channel_segments: int | None
    drop_path: float
    gradient_checkpointing: bool

    def with_default_eps(self, norm_eps: float) -> Self:
        """These options, with the variant's own eps where none was asked for."""
        return self if self.norm_eps is not None else replace(self, norm_eps=norm_eps)

    def __post_init__(self) -> None:
        problems = [*self._wrong_choices(), *self._wrong_numbers()]
        if problems:
            raise ConfigError(problems)

    def _wrong_choices(self) -> Iterator[str]:
        if self.output_stride not in get_args(OutputStride):
            yield f"output_stride is {self.output_stride}; it must be 8, 16 or 32"
        for key, known in _CHOICES.items():
            value = getattr(self, key)
            if value not in known:
                yield f"{key} is {value!r}. {did_you_mean(str(value), known)}"
        if self.pointwise_first and self.depth_multiplier != 1:
            yield "depth_multiplier needs the depthwise convolution first: set pointwise_first to False"

    def _wrong_numbers(self) -> Iterator[str]:
        if not 1 <= self.depth <= 5:
            yield f"depth is {self.depth}; it must be 1 to 5"
        for key, most in _MOST.items():
            value = getattr(self, key)
            if value is not None and not 1 <= value <= most:
                yield f"{key} is {shortened(repr(value))}; it must be 1 to {most}"
        if not MIN_WIDTH <= self.width <= MAX_WIDTH:
            yield f"width is {self.width}; it must be {MIN_WIDTH} to {MAX_WIDTH}"
        if not 0 < self.norm_momentum <= 1:
            yield f"norm_momentum is {self.norm_momentum}; it must be above 0 and at most 1"
        if self.norm_eps is not None and not 0 < self.norm_eps <= 1:
            yield f"norm_eps is {self.norm_eps}; it must be above 0 and at most 1"
        if not 0 <= self.drop_path < 1:
            yield f"drop_path is {self.drop_path}; it must be at least 0 and below 1"


class BackboneKeywords(TypedDict, total=False):
    """Keywords that functions hand on to `build_backbone`."""

    output_stride: int
    in_channels: int
    width: float
    padding: Padding
    stem_padding: StemPadding
    norm: NormName
    norm_momentum: float
    norm_eps: float | None
    residual: bool
    depthwise_activation: DepthwiseActivation
    depth_multiplier: int
    pointwise_first: bool
    channel_segments: int | None
    drop_path: float
    gradient_checkpointing: bool
