"""The `model` section: backbone, decoder, and how they are joined."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from segzoo.config.decoders import (
    FpnConfig,
    LinknetConfig,
    ManetConfig,
    PanConfig,
    PspnetConfig,
    SegformerConfig,
    SmpDeepLabV3Config,
    SmpDeepLabV3PlusConfig,
    UnetConfig,
    UpernetConfig,
)
from segzoo.config.fields import (
    MAX_MULTIPLIER,
    MAX_SEGMENTS,
    MAX_WIDTH,
    MIN_WIDTH,
    AtrousRate,
    Channels,
    FilePath,
    NonNegativeFloat,
    Section,
    list_to_tuple,
)
from segzoo.config.parts import PartsSection

AtrousRates = Annotated[tuple[AtrousRate, ...], BeforeValidator(list_to_tuple), Field(max_length=16)]


class BackboneConfig(Section):
    """The feature extractor."""

    name: str = "xception65"
    """Variant: `segzoo backbones` lists them."""
    width: Annotated[float, Field(ge=MIN_WIDTH, le=MAX_WIDTH)] = 1.0
    """Multiplies every channel count; below 1 for small, fast networks."""
    weights: FilePath | None = None
    """Published tag (imagenet; `segzoo backbones --weights` lists them), path of a weights file, run directory
    or saved model, or owner/name of a saved model on the Hugging Face hub; null starts from random weights. Weights set
    preprocessing, norm_eps and padding where you do not."""
    norm_eps: Annotated[float, Field(gt=0, le=1)] | None = None
    """Added to the variance in the backbone's norms; null is the weights' own, without weights the variant's."""
    padding: Literal["symmetric", "same"] = "symmetric"
    """Padding of strided convolutions and pools: symmetric, or TensorFlow's same (Keras' numbers)."""
    stem_padding: Literal["padded", "valid"] = "padded"
    """Whether the stem pads: padded gives taps of ceil(H/s) pixels, which decoders need; valid is the classifiers'."""
    residual: bool = True
    """Shortcuts around modules (Xception paper, Fig. 9)."""
    depthwise_activation: Literal["none", "relu", "elu"] = "none"
    """Activation between the depthwise and the pointwise convolution (Xception paper, Fig. 10)."""
    depth_multiplier: Annotated[int, Field(ge=1, le=MAX_MULTIPLIER)] = 1
    """Spatial filters per channel in a separable convolution."""
    pointwise_first: bool = False
    """Pointwise before depthwise, the paper's "extreme Inception" (Fig. 4)."""
    channel_segments: Annotated[int, Field(ge=1, le=MAX_SEGMENTS)] | None = None
    """Segments of channels that the spatial convolutions see apart: 1 is a plain convolution, null one per channel."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out the last module's body in training; less for earlier ones."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""


class DeepLabConfig(Section):
    """The DeepLab papers' own head: decoders deeplabv3plus and deeplabv3."""

    atrous_rates: AtrousRates = (6, 12, 18)
    """Rates of the atrous 3×3 branches at output stride 16; at 8 they double, at 32 they halve. [] leaves them out."""
    image_pooling: bool = True
    """Have the branch that sees the mean over the whole image."""
    separable: bool = True
    """Depthwise separable 3×3 convolutions in the pyramid and the decoder; false makes them plain ones."""
    aspp_channels: Channels = 256
    """Channels of each branch of the pyramid, and of what they are joined to."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability of dropping a number behind the pyramid, in training."""
    low_level_channels: Channels = 48
    """deeplabv3plus only: channels that the tap of stride 4 is brought down to."""
    decoder_channels: Channels = 256
    """deeplabv3plus only: channels of the decoder's 3×3 convolutions."""
    decoder_convolutions: Annotated[int, Field(ge=1, le=16)] = 2
    """deeplabv3plus only: how many 3×3 convolutions follow the join with the tap of stride 4."""


class ModelConfig(PartsSection):
    """The network."""

    kind = "decoder"
    place = "model"

    weights: FilePath | None = None
    """Checkpoint, run directory or saved model (its folder, or owner/name on the Hugging Face hub) whose whole network
    this run starts from, instead of backbone.weights; with other classes, the layers that give class scores start anew.
    It has to be of the same backbone and decoder."""
    decoder: str = "deeplabv3plus_smp"
    """What turns taps into class scores: the papers' deeplabv3plus or deeplabv3; SMP's deeplabv3plus_smp,
    deeplabv3_smp, unet, unetplusplus, fpn, pspnet, pan, linknet, manet, upernet, segformer; or one you registered."""
    output_stride: Literal[8, 16, 32] = 16
    """Input size over the size of the deepest tap, in training, and in evaluation unless eval_output_stride is set.
    fpn, linknet, manet and unetplusplus need 32; pan 16 or 32; SMP's DeepLabs 8 or 16."""
    eval_output_stride: Literal[8, 16, 32] | None = None
    """Output stride of validation, evaluation and prediction: the same weights, with rates in proportion, so 8 after
    training at 16 doubles them. null is output_stride."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Norms of the backbone, of deeplabv3plus, of deeplabv3 and of the auxiliary head; SMP's decoders keep their own.
    frozen is BatchNorm as loaded, which neither moves nor learns, and does nothing where nothing is loaded, as in a
    fresh decoder; group does not depend on the batch, but has no published weights."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    """BatchNorm momentum where `model.norm` acts, torch's sense. The paper's decay 0.9997 is 0.0003, for runs of
    30,000 steps only."""
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
