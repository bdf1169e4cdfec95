"""From the model section of a configuration to its network, as it is trained and as it is evaluated.

Training at output stride 16 is cheaper, and evaluation at 8 is finer: the paper's best rows are made this way.
"""

from typing import Any

import torch

from segzoo.backbones import Backbone
from segzoo.backbones.classifier import Classifier
from segzoo.backbones.registry import backbone_of
from segzoo.backbones.spec import check_taps
from segzoo.config.classification import ClassifierModelConfig
from segzoo.config.model import DecoderOptions
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models import deeplabv3plus as _deeplab  # noqa: F401  (registers the papers' decoders)
from segzoo.models.decoder import DECODERS
from segzoo.models.decoder import (
    register_decoder as register_decoder,  # once ours are there: no name can be taken twice
)
from segzoo.models.segmenter import AuxiliaryHead, Segmenter
from segzoo.models.smp import decoders as _smp_decoders  # noqa: F401  (registers SMP's decoders)

CLASSIFIER_STRIDE = 32


def build_segmenter(
    config: ModelConfig, num_classes: int, *, in_channels: int = 3, pretrained: bool = True
) -> Segmenter:
    """Build the network of a configuration, with fresh or pre-trained backbone weights, at `model.output_stride`.

    Args:
        config: the model section.
        num_classes: channels of the logits.
        in_channels: channels of the image.
        pretrained: load the weights that the configuration names; not where a checkpoint brings its own.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    check_model(config)
    backbone = backbone_of(
        config,
        config.backbone,
        pretrained=pretrained,
        output_stride=config.output_stride,
        in_channels=in_channels,
    )
    if config.freeze_backbone:
        backbone.freeze()
    taps = backbone.feature_specs
    check_taps(config.backbone.name, taps, config.output_stride)
    decoder = DECODERS[config.decoder].build(taps, num_classes, config)
    if hasattr(decoder, "size_divisor"):  # its name before, which nothing would pad to any more
        raise ConfigError(f"decoder {config.decoder!r}: size_divisor is called size_multiple now.")
    auxiliary = AuxiliaryHead(taps[-2], num_classes, config) if config.auxiliary_weight else None
    segmenter = Segmenter(backbone, decoder, auxiliary, config.canvas or (1, 1))
    segmenter.built_from = config
    return segmenter


def build_configured_classifier(
    config: ClassifierModelConfig, num_classes: int, *, in_channels: int = 3, pretrained: bool = True
) -> Classifier:
    """Build the classifier of a configuration; arguments as for `build_segmenter`.

    Raises:
        ConfigError: unknown names, or more modules to freeze than there are.
    """
    backbone = backbone_of(
        config, config.backbone, pretrained=pretrained, output_stride=CLASSIFIER_STRIDE, in_channels=in_channels
    )
    _freeze(backbone, config)
    return Classifier(backbone, num_classes, dropout=config.dropout, fc_width=config.fc_width)


def _freeze(backbone: Backbone, config: ClassifierModelConfig) -> None:
    modules, asked = len(backbone.in_order()), config.frozen_modules
    if asked == "all":
        backbone.freeze()
    elif asked > modules:
        raise ConfigError(
            f"model.frozen_modules: {asked}, but {config.backbone.name} has {modules} modules. Take all, or up to "
            f"{modules}."
        )
    elif asked:
        backbone.freeze(asked)


def check_model(config: ModelConfig) -> None:
    """Refuse combinations that no network can be built for.

    Raises:
        ConfigError: an unknown decoder, an output stride that it does not work at, or a stem that does not pad.
    """
    problems = model_problems(config)
    if problems:
        raise ConfigError(problems)


def model_problems(config: ModelConfig) -> list[str]:
    """A line for each reason why no network can be built: what nothing reads, an output stride, a stem."""
    strides = DECODERS[config.decoder].output_strides
    problems = [f"model: {line}" for line in config.unread_options()]
    problems += [
        f"{key}: {config.decoder} works at output stride {' or '.join(map(str, strides))}, not {stride}. Take that, or "
        "another decoder."
        for key, stride in (
            ("model.output_stride", config.output_stride),
            ("model.eval_output_stride", config.eval_output_stride),
        )
        if stride is not None and stride not in strides
    ]
    if config.backbone.stem_padding != "padded":
        problems.append(
            "model.backbone.stem_padding: a decoder needs taps of ceil(size / stride) pixels, which only the padded "
            "stem gives. Take padded; valid is for build_backbone and build_classifier."
        )
    return problems


def list_decoders() -> list[str]:
    """Names for `model.decoder`."""
    return list(DECODERS)


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
    _share_tensors(segmenter, planned)
    return planned.eval()


def _share_tensors(source: Segmenter, planned: Segmenter) -> None:
    for own, other in zip(planned.parameters(), source.parameters(), strict=True):
        own.requires_grad_(other.requires_grad)  # assigning makes the source follow
    planned.load_state_dict(source.state_dict(keep_vars=True), strict=True, assign=True)
    for name, buffer in planned.named_buffers():
        if buffer.is_meta:  # one that no state_dict holds
            path, _, last = name.rpartition(".")
            setattr(planned.get_submodule(path), last, source.get_buffer(name))
