"""The `model` section: backbone, decoders with their options, and how they are joined.

The options of a backbone are the keywords of `build_backbone`, too. Those of SMP's decoders have SMP's own defaults.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from segzoo.config.sections import (
    FROM_LIST,
    AtrousRate,
    Bands,
    Channels,
    FilePath,
    ListOf,
    NonNegativeFloat,
    PartsSection,
    PositiveFraction,
    Probability,
    Section,
    Size,
)

OutputStride = Literal[8, 16, 32]
Padding = Literal["symmetric", "same"]
StemPadding = Literal["padded", "valid"]
NormName = Literal["batch", "frozen", "group"]
DepthwiseActivation = Literal["none", "relu", "elu"]


class NormSettings(Section):
    """The norms of a backbone, and of what is built like it behind it."""

    norm: NormName = "batch"
    """Norms of the backbone; in a segmenter also of deeplabv3plus, of deeplabv3 and of the auxiliary head, while SMP's
    decoders keep their own. frozen is BatchNorm as loaded, which neither moves nor learns, and does nothing where
    nothing is loaded, as in a fresh decoder; group (GroupNorm) does not depend on the batch, but has no published
    weights."""
    norm_momentum: PositiveFraction = 0.1
    """Share of a new batch in BatchNorm's running statistics, where `norm` acts. The DeepLab papers' decay 0.9997 is
    0.0003, for runs of 30,000 steps only."""


class BackboneSwitches(Section):
    """The switches of the papers, with one meaning in configurations and in Python."""

    width: Annotated[float, Field(ge=0.01, le=8)] = 1.0
    """Multiplies every channel count, rounded to multiples of 8; below 1 for small, fast networks."""
    norm_eps: PositiveFraction | None = None
    """Added to the variance in the backbone's norms; null is the weights' own, without weights the variant's."""
    padding: Padding = "symmetric"
    """Padding of strided convolutions and pools: symmetric, on both sides, for dense prediction; same is TensorFlow's
    rule and gives Keras' numbers for xception."""
    stem_padding: StemPadding = "padded"
    """Whether the stem pads: padded gives taps of ceil(H/s) pixels, which decoders need; valid is the stem of
    classifiers: of Chollet's network, of Keras, and of timm's legacy_xception."""
    residual: bool = True
    """Shortcuts around modules (Xception paper, section 4.6, Fig. 9)."""
    depthwise_activation: DepthwiseActivation = "none"
    """Activation between the depthwise and the pointwise half of a separable convolution (section 4.7, Fig. 10)."""
    depth_multiplier: Annotated[int, Field(ge=1, le=16)] = 1
    """Spatial filters per channel in a separable convolution (1 in the paper)."""
    pointwise_first: bool = False
    """Pointwise before depthwise, the paper's "extreme Inception" (section 1.2, Fig. 4)."""
    channel_segments: Annotated[int, Field(ge=1, le=2**16)] | None = None
    """Segments of channels that the spatial convolutions see apart: 1 is a plain convolution beside the pointwise one,
    null one segment per channel (sections 1.2 and 5)."""
    drop_path: Probability = 0.0
    """Probability of leaving out the last module's body in training; less for earlier ones, in proportion."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    @model_validator(mode="after")
    def _several_filters_need_depthwise_first(self) -> Self:
        if self.pointwise_first and self.depth_multiplier != 1:
            raise ValueError("depth_multiplier needs the depthwise convolution first: set pointwise_first to false")
        return self


class BackboneOptions(BackboneSwitches, NormSettings):
    """What `build_backbone` builds a backbone from besides its name."""

    output_stride: OutputStride = 32
    """Image pixels between two pixels of the deepest feature map."""
    depth: Annotated[int, Field(ge=1, le=5)] = 5
    """Number of feature maps; modules that only deeper maps need are not built."""
    in_channels: Bands = 3
    """Channels of the image. Weights of RGB images are adapted, see `segzoo.backbones.weights`."""

    def with_default_eps(self, norm_eps: float) -> Self:
        """These options, with the variant's own eps where none was asked for."""
        return self if self.norm_eps is not None else self.model_copy(update={"norm_eps": norm_eps})


class _Origin(Section):
    name: str = "xception65"
    """Variant: `segzoo backbones` lists them."""
    weights: FilePath | None = None
    """Published tag (imagenet; `segzoo backbones --weights` lists them), path of a weights file, run directory
    or saved model, name of a published model (`segzoo models` lists them), or owner/name of a saved model on the
    Hugging Face hub; null starts from random weights. A file may be Keras', timm's or DeepLab's: a TensorFlow
    checkpoint, its .tar.gz, or a frozen graph. Weights set preprocessing, norm_eps and padding where you do not."""


class BackboneConfig(BackboneSwitches, _Origin, PartsSection):
    """The feature extractor."""

    kind = "backbone"
    place = "model.backbone"

    @property
    def chosen(self) -> tuple[str, ...]:
        """The variant."""
        return (self.name,)


MultipleOf32 = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
ThreeRates = Annotated[tuple[AtrousRate, AtrousRate, AtrousRate], FROM_LIST]
FiveChannels = Annotated[tuple[Channels, Channels, Channels, Channels, Channels], FROM_LIST]
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
    def _room_for_attention(self) -> Self:
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


AtrousRates = Annotated[ListOf[AtrousRate], Field(max_length=16)]


class DeepLabConfig(Section):
    """The DeepLab papers' own head: decoders deeplabv3plus and deeplabv3."""

    pyramid: Literal["aspp", "dpc"] = "aspp"
    """What looks at several scales: aspp, atrous spatial pyramid pooling; or dpc, the dense prediction cell that a
    search found on Cityscapes, which has rates of its own, no image pooling, and works at output stride 8 or 16."""
    atrous_rates: AtrousRates = (6, 12, 18)
    """Rates of the atrous 3×3 branches at output stride 16; at 8 they double, at 32 they halve. [] leaves them out."""
    image_pooling: bool = True
    """Have the branch that sees the mean over the whole image."""
    separable: bool = True
    """Depthwise separable 3×3 convolutions in the pyramid and the decoder; false makes them plain ones."""
    aspp_channels: Channels = 256
    """Channels of each branch of the pyramid, and of what they are joined to."""
    dropout: Probability = 0.1
    """Probability of dropping a number behind the pyramid, in training."""
    low_level_channels: Channels = 48
    """deeplabv3plus only: channels that the tap of stride 4 is brought down to."""
    decoder_channels: Channels = 256
    """deeplabv3plus only: channels of the decoder's 3×3 convolutions."""
    decoder_convolutions: Annotated[int, Field(ge=1, le=16)] = 2
    """deeplabv3plus only: how many 3×3 convolutions follow the join with the tap of stride 4."""

    @model_validator(mode="after")
    def _only_what_the_pyramid_reads(self) -> Self:
        fields = type(self).model_fields
        unread = [key for key in ("atrous_rates", "image_pooling") if getattr(self, key) != fields[key].default]
        if self.pyramid == "dpc" and unread:
            raise ValueError(f"{unread[0]}: pyramid dpc does not read it. Leave it out, or take aspp")
        return self


class ModelConfig(NormSettings, PartsSection):
    """The network."""

    kind = "decoder"
    place = "model"

    weights: FilePath | None = None
    """Checkpoint, run directory, published model (`segzoo models` lists them) or saved model (its folder, or owner/name
    on the Hugging Face hub) whose whole network this run starts from, instead of backbone.weights; with other classes,
    the layers that give class scores start anew. It has to be of the same backbone and decoder."""
    decoder: str = "deeplabv3plus"
    """What turns taps into class scores: the papers' deeplabv3plus or deeplabv3; SMP's deeplabv3plus_smp,
    deeplabv3_smp, unet, unetplusplus, fpn, pspnet, pan, linknet, manet, upernet, segformer; or one you registered."""
    output_stride: OutputStride = 16
    """Input size over the size of the deepest tap, in training, and in evaluation unless eval_output_stride is set.
    fpn, linknet, manet and unetplusplus need 32; pan 16 or 32; SMP's DeepLabs 8 or 16."""
    eval_output_stride: OutputStride | None = None
    """Output stride of validation, evaluation and prediction: the same weights, with rates in proportion, so 8 after
    training at 16 doubles them. null is output_stride."""
    canvas: Size | None = None
    """Height and width that smaller images are padded to in evaluation and prediction, below and to the right, with
    mid-gray; one number is a square. What a network makes of the whole image is then of the canvas, as the DeepLab
    papers' results have it: [513, 513] for VOC. null pads as little as the decoder needs."""
    freeze_backbone: bool = False
    """Train the decoder only: the backbone's weights and BatchNorm statistics stay as loaded."""
    auxiliary_weight: NonNegativeFloat = 0.0
    """Share of a second loss, on scores that a small head gives from the last tap but one, in training only: 0.4 in
    PSPNet. 0 builds no such head."""
    backbone: BackboneConfig = BackboneConfig()
    """The feature extractor."""
    deeplab: DeepLabConfig = DeepLabConfig()
    """Switches of decoders deeplabv3plus and deeplabv3."""
    deeplabv3plus_smp: SmpDeepLabV3PlusConfig = SmpDeepLabV3PlusConfig()
    """Options of decoder deeplabv3plus_smp."""
    deeplabv3_smp: SmpDeepLabV3Config = SmpDeepLabV3Config()
    """Options of decoder deeplabv3_smp."""
    unet: UnetConfig = UnetConfig()
    """Options of decoder unet."""
    unetplusplus: UnetConfig = UnetConfig()
    """Options of decoder unetplusplus."""
    fpn: FpnConfig = FpnConfig()
    """Options of decoder fpn."""
    pspnet: PspnetConfig = PspnetConfig()
    """Options of decoder pspnet."""
    pan: PanConfig = PanConfig()
    """Options of decoder pan."""
    linknet: LinknetConfig = LinknetConfig()
    """Options of decoder linknet."""
    manet: ManetConfig = ManetConfig()
    """Options of decoder manet."""
    upernet: UpernetConfig = UpernetConfig()
    """Options of decoder upernet."""
    segformer: SegformerConfig = SegformerConfig()
    """Options of decoder segformer."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The decoder."""
        return (self.decoder,)
