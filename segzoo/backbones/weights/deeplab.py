"""DeepLab's variables: which of our tensors each is, for the networks that its authors published.

Their graphs name a network's part by its scope (`xception_65/...`, `aspp1_depthwise`), and a variable by what it is in
a convolution or its norm (`weights`, `BatchNorm/gamma`). Classifiers were trained on 1001 classes, the first of which
does not exist in ImageNet and is left out.

Source: the names of the authors' `research/deeplab`, as its graphs and checkpoints have them.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.backbones.strides import PlannedBlock
from segzoo.backbones.weights.source import ALIGNED_RECIPE, Dense, SourceWeights
from segzoo.errors import CheckpointError

_SCOPE = re.compile(r"xception_(?P<layers>41|65|71)/")
_LOGITS = ("logits/weights", "logits/biases")
_WITH_BACKGROUND = 1001
_UNSPLIT = re.compile(r".*/separable_conv\d/depthwise_weights")
_LAST = "exit_flow/block2/unit_1/xception_module/separable_conv3_pointwise/weights"
_LAST_CHANNELS = 2048
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_SHOWN = 3  # names in a message


def read_deeplab(variables: Mapping[str, NDArray[np.float32]], source: str) -> SourceWeights:
    """A backbone of DeepLab's, the classifier's head where there is one, and what else a segmenter has behind it.

    Args:
        variables: by their names, in TensorFlow's layout.
        source: what to call them in messages.

    Raises:
        CheckpointError: no Xception in it, or one that was built otherwise than the published ones.
    """
    scopes = {found[0]: f"xception{found['layers']}" for found in map(_SCOPE.match, variables) if found}
    if len(scopes) != 1:
        shown = ", ".join(sorted(variables)[:_SHOWN]) or "none"
        raise CheckpointError(
            f"{source}: no Xception of DeepLab's in it, or several: its {len(variables)} variables are {shown}, ..."
        )
    if any(map(_UNSPLIT.fullmatch, variables)):
        raise CheckpointError(
            f"{source}: was built with regularize_depthwise, whose separable convolutions have one norm instead of two."
        )
    (scope, backbone), *_ = scopes.items()
    tensors = {name: _to_torch(name, array) for name, array in variables.items()}
    behind = {name: value for name, value in tensors.items() if not name.startswith(scope)}
    own = {name.removeprefix(scope): value for name, value in tensors.items() if name.startswith(scope)}
    head = tuple(_head(*(own.pop(name) for name in _LOGITS))) if own.keys() >= {*_LOGITS} else ()
    width = own[_LAST].shape[0] / _LAST_CHANNELS if _LAST in own else None
    return SourceWeights(source, "tensorflow", backbone, own, head, ALIGNED_RECIPE, width, behind)


def backbone_names(plan: tuple[PlannedBlock, ...]) -> dict[str, str]:
    """Our tensor names to DeepLab's, without the scope of the variant."""
    names = _layer("stem", "entry_flow/conv1_1", "conv1", "norm1") | _layer(
        "stem", "entry_flow/conv1_2", "conv2", "norm2"
    )
    for planned in plan:
        flow, _, number = planned.name.partition(".")
        block, unit = (1, int(number) + 1) if flow == "middle_flow" else (int(number) + 1, 1)
        theirs = f"{flow}/block{block}/unit_{unit}/xception_module"
        for index in range(len(planned.block.channels)):
            ours = f"{planned.name}.layers.{index}"
            half = f"{theirs}/separable_conv{index + 1}"
            names |= _layer(ours, f"{half}_depthwise", "separable.depthwise", "separable.norm")
            names |= _layer(ours, f"{half}_pointwise", "separable.pointwise", "norm")
        if planned.shortcut == "convolution":
            names |= _layer(f"{planned.name}.shortcut", f"{theirs}/shortcut", "convolution", "norm")
    return names


def decoder_names(theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of the tensors of our `deeplabv3plus` to DeepLab's, for the pyramid that is there.

    Args:
        theirs: the variables behind a backbone; those that no tensor of ours stands for stay without a name.
    """
    is_cell = any(name.startswith("meta_architecture/") for name in theirs)
    names = dict(_cell() if is_cell else _pyramid(theirs))
    names |= _pointwise("low_level", "decoder/feature_projection0")
    for number in range(_count(theirs, "decoder/decoder_conv{}_depthwise/depthwise_weights", first=0)):
        names |= _spatial(f"convolutions.{number}", f"decoder/decoder_conv{number}")
    return names | {"logits.weight": "logits/semantic/weights", "logits.bias": "logits/semantic/biases"}


def _cell() -> Iterator[tuple[str, str]]:
    """The dense prediction cell."""
    for number in range(5):
        yield from _spatial(f"aspp.branches.{number}", f"meta_architecture/branch{number}").items()
    yield from _pointwise("aspp.projection", "meta_architecture/concat_projection").items()


def _pyramid(theirs: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Atrous spatial pyramid pooling, with as many rates as there are."""
    yield from _pointwise("aspp.image_pooling", "image_pooling").items()
    yield from _pointwise("aspp.pointwise", "aspp0").items()
    for number in range(_count(theirs, "aspp{}_depthwise/depthwise_weights", first=1)):
        yield from _spatial(f"aspp.atrous.{number}", f"aspp{number + 1}").items()
    yield from _pointwise("aspp.projection", "concat_projection").items()


def _count(names: Mapping[str, Tensor], pattern: str, first: int) -> int:
    """How many of numbered names are there."""
    return next(number for number in range(len(names) + 1) if pattern.format(first + number) not in names)


def _pointwise(ours: str, theirs: str) -> dict[str, str]:
    return _layer(ours, theirs, "convolution", "norm")


def _spatial(ours: str, theirs: str) -> dict[str, str]:
    depthwise = _layer(ours, f"{theirs}_depthwise", "depthwise", "depthwise_norm")
    return depthwise | _layer(ours, f"{theirs}_pointwise", "pointwise", "pointwise_norm")


def _layer(ours: str, theirs: str, convolution: str, norm: str) -> dict[str, str]:
    """A convolution and the norm behind it."""
    kernels = "depthwise_weights" if theirs.endswith("_depthwise") else "weights"
    names = {f"{ours}.{convolution}.weight": f"{theirs}/{kernels}"}
    return names | {f"{ours}.{norm}.{tensor}": f"{theirs}/BatchNorm/{variable}" for tensor, variable in _NORM.items()}


def _head(weights: Tensor, biases: Tensor) -> Iterator[Dense]:
    """The class scores of a classifier, a 1×1 convolution behind the mean."""
    first = 1 if len(biases) == _WITH_BACKGROUND else 0
    yield Dense(weights.flatten(1)[first:], biases[first:])


def _to_torch(name: str, array: NDArray[np.float32]) -> Tensor:
    """TensorFlow keeps (height, width, in, out), and (height, width, channels, multiplier) for depthwise kernels."""
    tensor = torch.from_numpy(np.array(array, np.float32))
    if tensor.ndim == 4:
        tensor = tensor.permute((2, 3, 0, 1) if name.endswith("depthwise_weights") else (3, 2, 0, 1))
    return tensor.contiguous()
