"""Options of SMP's decoders, one section for each: `model.unet`, `model.fpn`, ... Defaults are SMP's own."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from segzoo.config.fields import AtrousRate, Channels, Section, list_to_tuple

Probability = Annotated[float, Field(ge=0, lt=1)]
MultipleOf32 = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
ThreeRates = Annotated[tuple[AtrousRate, AtrousRate, AtrousRate], BeforeValidator(list_to_tuple)]
FiveChannels = Annotated[tuple[Channels, Channels, Channels, Channels, Channels], BeforeValidator(list_to_tuple)]
Norm = Literal["batch", "instance", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]

SCSE_REDUCTION = 16
"""Channels over those of the bottleneck in SMP's attention: fewer channels would leave none."""


class DecoderOptions(Section):
    """Options of a decoder of which some are stated for one output stride."""

    def at_output_stride(self, stride: int, stated: int) -> Self:
        """The options that have the same weights see the same at another output stride.

        Args:
            stride: the other one.
            stated: the one that they are stated for.

        Raises:
            ValueError: there are none; it begins with the key and a colon.
        """
        return self


class SmpDeepLabV3PlusConfig(DecoderOptions):
    """SMP's DeepLabV3+, which is not the paper's: see `deeplabv3plus` for that one."""

    atrous_rates: ThreeRates = (12, 24, 36)
    """Rates of the three atrous branches at `model.output_stride`, whichever it is; evaluation at another output stride
    scales them."""
    channels: Channels = 256
    """Channels of each branch and of everything behind."""
    separable: bool = True
    """Depthwise separable convolutions in the atrous branches; false makes them plain ones."""
    dropout: Probability = 0.5
    """Probability of dropping a number behind the pyramid, in training."""

    def at_output_stride(self, stride: int, stated: int) -> Self:
        """Rates in proportion, which the paper's decoders have without being told."""
        uneven = [rate for rate in self.atrous_rates if rate * stated % stride]
        if uneven:
            raise ValueError(
                f"atrous_rates: {uneven} at output stride {stated} are no whole rates at {stride}, which "
                "model.eval_output_stride asks for."
            )
        return self.model_copy(update={"atrous_rates": tuple(rate * stated // stride for rate in self.atrous_rates)})


class SmpDeepLabV3Config(SmpDeepLabV3PlusConfig):
    """SMP's DeepLabV3, which is not the paper's: see `deeplabv3` for that one."""

    separable: bool = False
    """Depthwise separable convolutions in the atrous branches; false makes them plain ones."""


class UnetConfig(Section):
    """SMP's U-Net and U-Net++."""

    channels: FiveChannels = (256, 128, 64, 32, 16)
    """Channels of the five blocks, deep to shallow."""
    norm: Norm = "batch"
    """Norm of the decoder's convolutions; instance norm does not depend on the batch."""
    attention: Literal["none", "scse"] = "none"
    """Attention in every block: none, or scse (channels and pixels weighed apart), which needs 16 channels or more."""
    interpolation: Interpolation = "nearest"
    """How a block doubles its input."""

    @model_validator(mode="after")
    def _room_for_attention(self) -> "UnetConfig":
        if self.attention == "scse" and min(self.channels) < SCSE_REDUCTION:
            raise ValueError(f"channels: attention scse needs {SCSE_REDUCTION} or more in each block")
        return self


class FpnConfig(Section):
    """SMP's feature pyramid network; its norms are GroupNorm with 32 groups."""

    pyramid_channels: Channels = 256
    """Channels of the pyramid's levels."""
    segmentation_channels: MultipleOf32 = 128
    """Channels of each level's branch, a multiple of the 32 groups."""
    merge: Literal["add", "cat"] = "add"
    """How the four branches become one: added, or concatenated."""
    dropout: Probability = 0.2
    """Probability of dropping a whole channel behind the merge, in training."""
    interpolation: Interpolation = "nearest"
    """How a level doubles on the way to the next."""


class PspnetConfig(Section):
    """SMP's PSPNet on the deepest tap."""

    channels: Channels = 512
    """Channels behind the pyramid of pools."""
    norm: Norm = "batch"
    """Norm of the decoder's convolutions; the branch pooled to one pixel has none."""
    dropout: Probability = 0.2
    """Probability of dropping a whole channel behind the pyramid, in training."""


class PanConfig(Section):
    """SMP's pyramid attention network."""

    channels: Channels = 32
    """Channels of the decoder."""
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    """How deeper maps are brought to the size of shallower ones."""


class LinknetConfig(Section):
    """SMP's Linknet; its channels are the taps'."""

    norm: Norm = "batch"
    """Norm of the decoder's convolutions; instance norm does not depend on the batch."""


class ManetConfig(Section):
    """SMP's multi-scale attention network."""

    channels: FiveChannels = (256, 128, 64, 32, 16)
    """Channels of the five blocks, deep to shallow."""
    norm: Norm = "batch"
    """Norm of the decoder's convolutions; instance norm does not depend on the batch."""
    pab_channels: Channels = 64
    """Channels in which the position attention compares pixels. Its memory grows with the square of the pixels."""
    interpolation: Interpolation = "nearest"
    """How a block doubles its input."""


class UpernetConfig(Section):
    """SMP's unified perceptual parsing network."""

    channels: Channels = 256
    """Channels of the decoder."""


class SegformerConfig(Section):
    """SMP's SegFormer decoder: every tap through a linear layer, resized and joined."""

    channels: Channels = 256
    """Channels that each tap is brought to."""
