"""Keras' weights of Chollet's network: old `.h5` files, Keras 3's `.weights.h5`, and `.keras` archives.

All three hold HDF5. The old layout has a group per layer, under the layer's name. Keras 3's has a group per layer too,
named after its class and its place among the layers of that class (`separable_conv2d_3`). Nothing but arrays is read:
the configuration inside a file, which could name code to run, is left alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from segzoo.backbones.strides import PlannedBlock, plan_blocks
from segzoo.backbones.weights.hdf5 import Hdf5Content, open_hdf5
from segzoo.backbones.weights.source import KERAS_RECIPE, Dense, SourceWeights
from segzoo.backbones.xception import XCEPTION
from segzoo.errors import CheckpointError

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_SHORTCUT_BLOCKS = ("block2", "block3", "block4", "block13")
_NAMED = re.compile(r"block\d+_(sep)?conv\d+(_bn)?")
_NO_LAYERS = ("optimizer", "metrics")

Kind = Literal["convolution", "separable", "norm", "dense", "counter", "other"]
_WEIGHTS: dict[Kind, tuple[str, ...]] = {
    "convolution": ("kernel", "bias"),
    "separable": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
_MARKS: dict[Kind, str] = {"convolution": "/kernel", "separable": "/depthwise_kernel", "norm": "/gamma"}


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with weights.

    Args:
        model: where the model stands that it belongs to; empty for the outermost.
        name: in its model.
        arrays: by Keras' name of the weight, in Keras' layout.
    """

    model: str
    name: str
    arrays: dict[str, np.ndarray]

    @property
    def kind(self) -> Kind:
        """What it computes, as its arrays show it."""
        if any(array.ndim == 0 or array.dtype != np.float32 for array in self.arrays.values()):
            return "counter"  # of what it saw, or Dropout's random state
        if "depthwise_kernel" in self.arrays and "pointwise_kernel" in self.arrays:
            return "separable"
        if "gamma" in self.arrays or "moving_mean" in self.arrays:
            return "norm"
        if "kernel" in self.arrays:
            return "dense" if self.arrays["kernel"].ndim == 2 else "convolution"
        return "other"

    @property
    def out_channels(self) -> int:
        """Channels of its result."""
        kernel = self.arrays.get("pointwise_kernel", self.arrays.get("kernel"))
        return int((next(iter(self.arrays.values())) if kernel is None else kernel).shape[-1])


def read_keras(file: Path | IO[bytes], size: int, source: str) -> SourceWeights:
    """Read Xception out of a Keras file, also where it is nested in a larger model.

    Biases of convolutions, which Keras has by default and Chollet's network has not, are folded into the BatchNorms
    behind them.

    Args:
        file: HDF5, by path or opened.
        size: of the file in bytes.
        source: what to call it in messages.

    Raises:
        CheckpointError: no HDF5, no weights of Keras, or no Xception in it.
    """
    with open_hdf5(file, size, source) as content:
        root = content.root
        if "model_weights" in root:  # a whole model keeps its weights in a group
            root = content.group(root, "model_weights")
        read = _old_layers if "layer_names" in root.attrs else _keras3_layers
        layers = [layer for layer in read(content, root) if layer.kind != "counter"]
        dense = [layer for layer in layers if layer.kind == "dense"]
        others = [layer for layer in layers if layer.kind != "dense"]
        by_name = any(_NAMED.fullmatch(layer.name) for layer in others)
        named = dict(_by_name(others) if by_name else _by_order(others, source))
        _fold_biases(named)
        tensors = {
            f"{name}/{kind}": _to_torch(kind, array)
            for name, layer in named.items()
            for kind, array in layer.arrays.items()
        }
        return SourceWeights(source, "keras", "xception", tensors, tuple(map(_dense, dense)), KERAS_RECIPE)


def keras_names(plan: tuple[PlannedBlock, ...]) -> dict[str, str]:
    """Our tensor names to Keras', for Chollet's network, in the order in which Keras keeps its layers."""
    names = {"stem.conv1.weight": "block1_conv1/kernel", "stem.conv2.weight": "block1_conv2/kernel"}
    names |= _norm("stem.norm1", "block1_conv1_bn")
    names |= _norm("stem.norm2", "block1_conv2_bn")
    shortcuts = 0
    for number, planned in enumerate(plan, start=2):
        for index in range(len(planned.block.channels)):
            ours, theirs = f"{planned.name}.layers.{index}", f"block{number}_sepconv{index + 1}"
            names[f"{ours}.separable.depthwise.weight"] = f"{theirs}/depthwise_kernel"
            names[f"{ours}.separable.pointwise.weight"] = f"{theirs}/pointwise_kernel"
            names |= _norm(f"{ours}.norm", f"{theirs}_bn")
        if planned.shortcut == "convolution":
            shortcuts += 1
            names[f"{planned.name}.shortcut.convolution.weight"] = f"shortcut{shortcuts}/kernel"
            names |= _norm(f"{planned.name}.shortcut.norm", f"shortcut{shortcuts}_bn")
    return names


def _old_layers(content: Hdf5Content, root: h5py.Group) -> Iterator[Layer]:
    """The old layout: a nested model is one group, and only its weights' names tell its layers apart."""
    for outer in content.names(root, "layer_names"):
        group, layers = content.group(root, outer), dict[str, dict[str, np.ndarray]]()
        for weight in content.names(group, "weight_names"):
            _, _, parent_and_kind = weight.rpartition(f"{outer}/")
            *parents, kind = parent_and_kind.split("/")
            layers.setdefault(parents[-1] if parents else outer, {})[kind.removesuffix(":0")] = content.array(
                group, weight
            )
        if len(layers) == 1:  # a layer of its own: sessions append numbers to weights' names, not to the layer's
            layers = {outer: next(iter(layers.values()))}
        for name, arrays in layers.items():
            yield Layer("" if len(layers) == 1 else outer, name, arrays)


def _keras3_layers(content: Hdf5Content, root: h5py.Group) -> Iterator[Layer]:
    """Keras 3's layout: `[model/]layers/CLASS_NUMBER/vars/INDEX`, in the order of class and number."""
    found: list[tuple[str, h5py.Group]] = []

    def collect(path: str, item: h5py.HLObject) -> None:
        parts = path.split("/")
        if parts[-1] == "vars" and isinstance(item, h5py.Group) and len(item) and parts[0] not in _NO_LAYERS:
            found.append((path.removesuffix("/vars"), item))

    root.visititems(collect)
    for path, variables in sorted(found, key=lambda pair: _natural(pair[0])):
        arrays = [content.array(variables, index) for index in sorted(variables, key=int)]
        model, _, name = path.rpartition("/")
        yield Layer(model.removesuffix("layers").strip("/"), name, dict(_name_arrays(arrays)))


def _name_arrays(arrays: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Keras 3 numbers a layer's arrays; their dimensions tell what they are."""
    kinds: dict[tuple[int, ...], Kind] = {
        (4,): "convolution",
        (4, 1): "convolution",
        (4, 4): "separable",
        (4, 4, 1): "separable",
        (1, 1, 1, 1): "norm",
        (2, 1): "dense",
        (2,): "dense",
    }
    kind = kinds.get(tuple(array.ndim for array in arrays))
    names = _WEIGHTS[kind] if kind else tuple(str(index) for index in range(len(arrays)))
    return zip(names, arrays, strict=False)  # a layer may have no bias


def _by_name(layers: list[Layer]) -> Iterator[tuple[str, Layer]]:
    """Layers that keep Chollet's names. The shortcuts have none: their width tells which block they go around.

    Keras numbers them over the whole session (`conv2d_7`), so the number says nothing.
    """
    named = {layer.name: layer for layer in layers if _NAMED.fullmatch(layer.name)}
    model = next(iter(named.values())).model
    rest = [layer for layer in layers if layer.name not in named]
    yield from named.items()
    for number, block in enumerate(_SHORTCUT_BLOCKS, start=1):
        around = named.get(f"{block}_sepconv2")
        if around is None:
            continue
        for kind, name in (("convolution", f"shortcut{number}"), ("norm", f"shortcut{number}_bn")):
            wanted = (kind, model, around.out_channels)
            found = next((layer for layer in rest if (layer.kind, layer.model, layer.out_channels) == wanted), None)
            if found is not None:
                rest.remove(found)
                yield name, found
    yield from ((layer.name, layer) for layer in rest)


def _by_order(layers: list[Layer], source: str) -> Iterator[tuple[str, Layer]]:
    """Layers without Chollet's names: the model with separable convolutions, whose layers are in his order."""
    models = [layer.model for layer in layers if layer.kind == "separable"]
    if not models:
        raise CheckpointError(
            f"{source}: no Xception in it: none of its {len(layers)} layers is a separable convolution"
        )
    model = max(models, key=models.count)
    names = keras_names(plan_blocks(XCEPTION, 32)).values()
    left = {id(layer): layer for layer in layers}
    for kind, mark in _MARKS.items():
        slots = [name.removesuffix(mark) for name in names if name.endswith(mark)]
        found = [layer for layer in layers if layer.kind == kind and layer.model == model]
        if len(found) < len(slots):
            raise CheckpointError(f"{source}: has {len(found)} {kind} layers, where Xception has {len(slots)}")
        for slot, layer in zip(slots, found, strict=False):
            yield slot, left.pop(id(layer))
    yield from ((f"{layer.model}/{layer.name}".strip("/"), layer) for layer in left.values())


def _fold_biases(named: dict[str, Layer]) -> None:
    """Take the biases of convolutions into the BatchNorms behind them.

    It is exact: what is added before the moving mean is subtracted may as well be subtracted from that mean.
    """
    for name, layer in named.items():
        norm = named.get(f"{name}_bn")
        if "bias" not in layer.arrays or norm is None or "moving_mean" not in norm.arrays:
            continue
        if layer.arrays["bias"].shape == norm.arrays["moving_mean"].shape:
            norm.arrays["moving_mean"] = norm.arrays["moving_mean"] - layer.arrays.pop("bias")


def _dense(layer: Layer) -> Dense:
    bias = layer.arrays.get("bias")
    return Dense(_to_torch("kernel", layer.arrays["kernel"]), None if bias is None else torch.from_numpy(bias))


def _to_torch(kind: str, array: np.ndarray) -> Tensor:
    """Keras keeps (height, width, in, out) and (in, out), and (height, width, channels, multiplier) for depthwise."""
    tensor = torch.from_numpy(array)
    if kind == "depthwise_kernel" and tensor.ndim == 4:
        tensor = tensor.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
    elif tensor.ndim == 4:
        tensor = tensor.permute(3, 2, 0, 1)
    return (tensor.T if tensor.ndim == 2 else tensor).contiguous()


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{tensor}": f"{theirs}/{keras}" for tensor, keras in _NORM.items()}


def _natural(path: str) -> list[tuple[str, int]]:
    """`dense_10` behind `dense_9`, and `dense` in front of both."""
    parts = (re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in path.split("/"))
    return [(part[1], int(part[2] or 0)) for part in parts if part]
