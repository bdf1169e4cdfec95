"""The `model` section: backbone, decoder, and how they are joined."""

from typing import Annotated, Literal

from pydantic import Field

from segzoo.config.fields import PositiveFloat, PositiveInt, Section


class BackboneConfig(Section):
    """The feature extractor."""

    name: str = "xception65"
    """Variant: `python tools/backbones.py` lists them."""
    width: PositiveFloat = 1.0
    """Multiplies every channel count; below 1 for small, fast networks."""
    weights: str | None = None
    """Published tag (imagenet; `python tools/backbones.py --weights` lists them), or path of a weights file or run
    directory; null starts from random weights. Weights set preprocessing, norm_eps and padding where you do not."""
    norm_eps: PositiveFloat | None = None
    """Added to the variance in the backbone's norms; null is the weights' own, without weights the variant's."""
    padding: Literal["symmetric", "same"] = "symmetric"
    """Padding of strided convolutions and pools: symmetric, or TensorFlow's same (Keras' numbers)."""
    stem_padding: Literal["padded", "valid"] = "padded"
    """Whether the stem pads: padded gives taps of ceil(H/s) pixels, which decoders need; valid is the classifiers'."""
    residual: bool = True
    """Shortcuts around modules (Xception paper, Fig. 9)."""
    depthwise_activation: Literal["none", "relu", "elu"] = "none"
    """Activation between the depthwise and the pointwise convolution (Xception paper, Fig. 10)."""
    depth_multiplier: PositiveInt = 1
    """Spatial filters per channel in a separable convolution."""
    pointwise_first: bool = False
    """Pointwise before depthwise, the paper's "extreme Inception" (Fig. 4)."""
    channel_segments: PositiveInt | None = None
    """Segments of channels that the spatial convolutions see apart: 1 is a plain convolution, null one per channel."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out the last module's body in training; less for earlier ones."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""


class ModelConfig(Section):
    """The network."""

    decoder: str = "deeplabv3plus_smp"
    """What turns taps into class scores: deeplabv3plus_smp, unet, or one you registered."""
    output_stride: Literal[8, 16, 32] = 16
    """Input size over the size of the deepest tap, in training and evaluation."""
    backbone: BackboneConfig = BackboneConfig()
    """The feature extractor."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    """BatchNorm momentum, torch's sense. The paper's decay 0.9997 is 0.0003, for runs of 30,000 steps only."""
