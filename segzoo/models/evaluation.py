"""The network at the output stride it is evaluated at: the same weights, planned anew.

Training at output stride 16 is cheaper, and evaluation at 8 is finer: the paper's best rows are made this way.
"""

from typing import Any

import torch

from segzoo.config.model import DecoderOptions
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, check_model
from segzoo.models.segmenter import Segmenter


def evaluation_config(config: ModelConfig) -> ModelConfig:
    """The model section of the same network at `model.eval_output_stride`, for `build_segmenter`.

    The papers' decoders derive their rates from the output stride. Options that are stated for one, as SMP's rates are,
    follow it here, see `DecoderOptions`.

    Raises:
        ConfigError: the decoder does not work at this stride, or its options cannot follow.
    """
    stride = config.eval_output_stride or config.output_stride
    if stride == config.output_stride:
        return config
    check_model(config)  # it names the key; what is returned has the stride under another
    update: dict[str, Any] = {"output_stride": stride}
    options = getattr(config, config.decoder, None)
    if isinstance(options, DecoderOptions):
        try:
            update[config.decoder] = options.at_output_stride(stride, config.output_stride)
        except ValueError as error:
            raise ConfigError(f"model.{config.decoder}.{error}") from None
    return config.model_copy(update=update)


def planned_for_evaluation(segmenter: Segmenter, config: ModelConfig, num_classes: int) -> Segmenter:
    """The network at `model.eval_output_stride`, in evaluation mode, around the very same tensors.

    It is a second set of modules without weights of its own, so training it or loading into it is the first's affair.
    Buffers are replaced, not changed, when a network moves to another device: plan again after that.

    Args:
        segmenter: the network, at any output stride.
        config: the model section it was built from, with the `eval_output_stride` that is wanted.
        num_classes: channels of the logits.

    Returns:
        `segmenter` itself where it is planned for that stride already.

    Raises:
        ConfigError: as `evaluation_config`.
    """
    wanted = evaluation_config(config)
    if segmenter.backbone.output_stride == wanted.output_stride:
        return segmenter
    with torch.device("meta"):  # no memory, no time, no random numbers
        planned = build_segmenter(wanted, num_classes, in_channels=segmenter.backbone.in_channels, pretrained=False)
    _share(segmenter, planned)
    return planned.eval()


def _share(source: Segmenter, planned: Segmenter) -> None:
    for own, other in zip(planned.parameters(), source.parameters(), strict=True):
        own.requires_grad_(other.requires_grad)  # assigning makes the source follow
    planned.load_state_dict(source.state_dict(keep_vars=True), strict=True, assign=True)
    for name, buffer in planned.named_buffers():
        if buffer.is_meta:  # one that no state_dict holds
            path, _, last = name.rpartition(".")
            setattr(planned.get_submodule(path), last, source.get_buffer(name))
