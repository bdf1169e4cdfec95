"""segzoo's backbones as encoders of segmentation_models_pytorch (SMP).

    import segmentation_models_pytorch as smp
    import segzoo

    segzoo.register_smp_encoders()
    model = smp.DeepLabV3Plus("segzoo-xception", encoder_weights=None, encoder_output_stride=16)
    model.encoder.load_weights("xception.h5")  # or encoder_weights="imagenet", which downloads

An encoder is SMP's word for a backbone. Its features start with the image itself, and SMP's decoders expect the
others behind their ReLU.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from segmentation_models_pytorch import encoders as smp_encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.backbones import build_backbone, list_backbones
from segzoo.backbones.spec import check_taps
from segzoo.backbones.weights import adapt_channels, fill, load_weights
from segzoo.backbones.weights.published import IMAGENET, find_published

PREFIX = "segzoo-"

_STEM = "stem.conv1.weight"


def register_smp_encoders() -> None:
    """Make `segzoo-xception`, `segzoo-xception65`, ... known to SMP. Calling it again changes nothing.

    SMP looks `encoder_weights` up by name ("imagenet" is downloaded); for a file build with None and call
    `model.encoder.load_weights(path)`.
    """
    for name in list_backbones():
        entry = {"encoder": SegzooEncoder, "params": {"name": name}, "pretrained_settings": _pretrained_settings(name)}
        smp_encoders.encoders.setdefault(PREFIX + name, entry)


def _pretrained_settings(name: str) -> dict[str, dict[str, str]]:
    """What SMP downloads for `encoder_weights="imagenet"`."""
    entry = find_published(name, IMAGENET)
    return {} if entry is None else {IMAGENET: {"repo_id": entry.repository, "revision": entry.revision}}


class SegzooEncoder(nn.Module, EncoderMixin):
    """A backbone that meets SMP's encoder contract.

    Dilation and input channels are planned, not patched: `make_dilated` and `set_in_channels` build the network anew
    around the same parameters.

    Args:
        name: a variant, see `list_backbones`.
        depth: features behind the image, 1 to 5.
        output_stride: 8, 16 or 32.
        width: multiplies channel counts.
    """

    def __init__(self, name: str, *, depth: int = 5, output_stride: int = 32, width: float = 1.0) -> None:
        super().__init__()
        self._build = partial(build_backbone, name, depth=depth, width=width)
        self._depth = depth
        self._in_channels = 3
        self._output_stride = output_stride
        self.backbone = self._build(output_stride=output_stride, in_channels=3)
        check_taps(name, self.backbone.feature_specs, output_stride, depth)
        self._out_channels = [3, *(spec.channels for spec in self.backbone.feature_specs)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """From images (N, in_channels, H, W) to these and `depth` maps of `out_channels` at strides 2, 4, ..."""
        features = [F.relu(feature) for feature in self.backbone(x)]
        features.insert(0, x)
        return features

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Take images of another number of channels.

        Weights of the first convolution are adapted if they are `pretrained`; else they are drawn anew.
        """
        if in_channels == self._in_channels:
            return
        state = self.backbone.state_dict(keep_vars=True)
        kernels = state.pop(_STEM)
        if pretrained and self._in_channels == 3:
            state[_STEM] = adapt_channels(kernels.detach(), in_channels)
        self._in_channels = in_channels
        self._out_channels = [in_channels, *self._out_channels[1:]]
        self._replan(state)

    def make_dilated(self, output_stride: int) -> None:
        """Give up strides beyond `output_stride`, which is 8 or 16."""
        if output_stride not in (8, 16):
            raise ValueError(f"Output stride should be 16 or 8, got {output_stride}.")
        if output_stride != self._output_stride:
            self._output_stride = output_stride
            self._replan(self.backbone.state_dict(keep_vars=True))

    def load_weights(self, path: str) -> None:
        """Load a weights file, see `segzoo.backbones.weights`."""
        load_weights(self.backbone, path)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors under our own names, or under timm's, which SMP downloads."""
        if any(name.startswith("backbone.") for name in state_dict):
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        return fill(self.backbone, dict(state_dict), source="pre-trained weights")

    def _replan(self, state: dict[str, Tensor]) -> None:
        """Build the network for the present stride and channels, around the parameters of the former."""
        planned = self._build(output_stride=self._output_stride, in_channels=self._in_channels)
        for own, former in zip(planned.parameters(), self.backbone.parameters(), strict=True):
            own.requires_grad_(former.requires_grad)  # assigning makes the former follow
        planned.load_state_dict(state, strict=False, assign=True)  # only the stem may be missing
        planned.frozen = self.backbone.frozen
        self.backbone = planned.train(self.training)
