"""The `model` section: backbone, decoder, and how they are joined."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from segzoo.config.backbone import BackboneConfig, NormSettings, OutputStride
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
    AtrousRate,
    Channels,
    FilePath,
    NonNegativeFloat,
    Section,
    Size,
    list_to_tuple,
)
from segzoo.config.parts import PartsSection

AtrousRates = Annotated[tuple[AtrousRate, ...], BeforeValidator(list_to_tuple), Field(max_length=16)]


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
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
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
    """Checkpoint, run directory or saved model (its folder, or owner/name on the Hugging Face hub) whose whole network
    this run starts from, instead of backbone.weights; with other classes, the layers that give class scores start anew.
    It has to be of the same backbone and decoder."""
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
