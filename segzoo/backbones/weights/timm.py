"""timm's state dicts: `legacy_xception` for Chollet's network, the aligned ones under their own names.

Cadene's `pretrainedmodels`, from which timm's port of Chollet's network comes, differs in two things: its head is
called `last_linear`, and its pointwise kernels may lack the 1×1 dimensions.
"""

import re

from torch import Tensor

from segzoo.backbones.strides import PlannedBlock
from segzoo.backbones.weights.source import TIMM_RECIPES, Dense, SourceWeights
from segzoo.errors import CheckpointError

_HEADS = ("fc", "last_linear", "head.fc")
_NORM = ("weight", "bias", "running_mean", "running_var")
_BY_FLOW = re.compile(r"^(stem|blocks)_(\d+)")  # as timm flattens a network whose features are wanted
_SHOWN = 3  # names of tensors in a message

# Modules, and whether norms come before convolutions.
_ALIGNED = {
    (13, False): "xception41",
    (21, False): "xception65",
    (23, False): "xception71",
    (13, True): "xception41p",
    (21, True): "xception65p",
}


def read_state(state: dict[str, Tensor], source: str) -> SourceWeights:
    """Recognise a state dict with timm's or Cadene's names.

    Raises:
        CheckpointError: it belongs to no network of the family.
    """
    backbone = variant_of(state)
    if backbone is None:
        shown = ", ".join(list(state)[:_SHOWN])
        raise CheckpointError(f"{source}: another architecture, no Xception: its {len(state)} tensors are {shown}, ...")
    state = {_BY_FLOW.sub(r"\1.\2", name): _with_pixel_dimensions(name, value) for name, value in state.items()}
    head = tuple(
        Dense(state.pop(f"{name}.weight"), state.pop(f"{name}.bias", None))
        for name in _HEADS
        if f"{name}.weight" in state
    )
    return SourceWeights(source, "timm", backbone, state, head, TIMM_RECIPES[backbone])


def variant_of(state: dict[str, Tensor]) -> str | None:
    """The variant that a state dict with timm's or Cadene's names belongs to."""
    if any(name.startswith("block12.rep.") for name in state):
        return "xception"
    if not any(name.endswith(".conv_dw.weight") for name in state):
        return None
    names = [_BY_FLOW.sub(r"\1.\2", name) for name in state]
    modules = {name.split(".")[1] for name in names if name.startswith("blocks.")}
    return aligned_variant(len(modules), preactivation="blocks.1.norm.weight" in names)


def aligned_variant(modules: int, *, preactivation: bool) -> str | None:
    """The aligned variant with this number of modules."""
    return _ALIGNED.get((modules, preactivation))


def _with_pixel_dimensions(name: str, value: Tensor) -> Tensor:
    return value[:, :, None, None] if value.ndim == 2 and name.endswith("pointwise.weight") else value


def legacy_names(plan: tuple[PlannedBlock, ...]) -> dict[str, str]:
    """Our tensor names to those of timm's `legacy_xception`, which are Cadene's."""
    names = {"stem.conv1.weight": "conv1.weight", "stem.conv2.weight": "conv2.weight"}
    names |= _norm("stem.norm1", "bn1") | _norm("stem.norm2", "bn2")
    for number, planned in enumerate(plan, start=1):
        separables = _legacy_separables(planned, number)
        for index, (separable, norm) in enumerate(separables):
            ours = f"{planned.name}.layers.{index}"
            names[f"{ours}.separable.depthwise.weight"] = f"{separable}.conv1.weight"
            names[f"{ours}.separable.pointwise.weight"] = f"{separable}.pointwise.weight"
            names |= _norm(f"{ours}.norm", norm)
        if planned.shortcut == "convolution":
            names[f"{planned.name}.shortcut.convolution.weight"] = f"block{number}.skip.weight"
            names |= _norm(f"{planned.name}.shortcut.norm", f"block{number}.skipbn")
    return names


def _legacy_separables(planned: PlannedBlock, number: int) -> list[tuple[str, str]]:
    """Names of a module's separable convolutions and norms; a module is one list of layers, ReLUs counted."""
    indices = range(len(planned.block.channels))
    if planned.block.relu == "after":  # the last module has no list: conv3, bn3, conv4, bn4
        return [(f"conv{index + 3}", f"bn{index + 3}") for index in indices]
    first = 1 if planned.block.relu == "before" else 0
    return [
        (f"block{number}.rep.{first + 3 * index}", f"block{number}.rep.{first + 3 * index + 1}") for index in indices
    ]


def aligned_names(plan: tuple[PlannedBlock, ...]) -> dict[str, str]:
    """Our tensor names to those of timm's `xception41`, `xception65` and `xception71`."""
    names = {"stem.conv1.weight": "stem.0.conv.weight", "stem.conv2.weight": "stem.1.conv.weight"}
    names |= _norm("stem.norm1", "stem.0.bn") | _norm("stem.norm2", "stem.1.bn")
    for number, planned in enumerate(plan):
        for index in range(len(planned.block.channels)):
            ours, theirs = f"{planned.name}.layers.{index}", f"blocks.{number}.stack.conv{index + 1}"
            names[f"{ours}.separable.depthwise.weight"] = f"{theirs}.conv_dw.weight"
            names[f"{ours}.separable.pointwise.weight"] = f"{theirs}.conv_pw.weight"
            names |= _norm(f"{ours}.separable.norm", f"{theirs}.bn_dw")
            names |= _norm(f"{ours}.norm", f"{theirs}.bn_pw")
        if planned.shortcut == "convolution":
            names[f"{planned.name}.shortcut.convolution.weight"] = f"blocks.{number}.shortcut.conv.weight"
            names |= _norm(f"{planned.name}.shortcut.norm", f"blocks.{number}.shortcut.bn")
    return names


def preactivation_names(plan: tuple[PlannedBlock, ...]) -> dict[str, str]:
    """Our tensor names to those of timm's `xception41p` and `xception65p`."""
    names = {"stem.conv1.weight": "stem.0.conv.weight", "stem.conv2.weight": "stem.1.weight"}
    names |= _norm("stem.norm1", "stem.0.bn")
    for number, planned in enumerate(plan):
        names |= _norm(f"{planned.name}.norm", f"blocks.{number}.norm")
        for index in range(len(planned.block.channels)):
            ours, theirs = f"{planned.name}.layers.{index}", f"blocks.{number}.stack.conv{index + 1}"
            names[f"{ours}.separable.depthwise.weight"] = f"{theirs}.conv_dw.weight"
            names[f"{ours}.separable.pointwise.weight"] = f"{theirs}.conv_pw.weight"
            if index > 0:
                names |= _norm(f"{ours}.norm", f"{theirs}.norm")
        if planned.shortcut == "convolution":
            names[f"{planned.name}.shortcut.convolution.weight"] = f"blocks.{number}.shortcut.weight"
    return names


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{tensor}": f"{theirs}.{tensor}" for tensor in _NORM}
