"""Put weights into a network: all of them, or nothing."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike

import torch
from torch import Tensor, nn

from segzoo.backbones.aligned_xception import AlignedXception
from segzoo.backbones.spec import Network
from segzoo.backbones.strides import PlannedBlock
from segzoo.backbones.weights import deeplab, keras, timm
from segzoo.backbones.weights.find import find_weights
from segzoo.backbones.weights.recognise import recognise_state
from segzoo.backbones.weights.source import Naming, SourceWeights, is_plain
from segzoo.backbones.xception import Xception
from segzoo.errors import CheckpointError, ConfigError

_STEM = "stem.conv1.weight"
_LISTED = 3  # tensors named in one message
_logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, weights: str | PathLike[str]) -> None:
    """Load published weights by their tag, or a file, into a backbone or a classifier.

    Every tensor of the backbone is filled and every tensor of the file used, except a classifier's head, which a
    backbone leaves aside, and the modules that a backbone of smaller depth does not have. `adapt_channels` says what
    happens to networks for images of other than three channels. A classifier takes the file's head where the layers
    agree; else its own stays as it is, and the log says so.

    Args:
        network: a backbone or a classifier.
        weights: a tag, such as imagenet (`segzoo.backbones.weights.published`), or the path of a file or run
            directory, which is recognised by its content.

    Raises:
        ConfigError: no such tag or file, no download, or no names are known for this network.
        CheckpointError: tensors are missing, left over, of another shape or not finite. Nothing is loaded then.
    """
    fill_from(network, find_weights(variant_of(_backbone_of(network)), weights))


def fill(network: nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """Load a state dict with timm's or Cadene's names, as `load_weights` does a file.

    Args:
        network: a backbone or a classifier.
        tensors: by the name timm or Cadene gives them.
        source: what to call them in messages.

    Raises:
        ConfigError: no names are known for this network.
        CheckpointError: the tensors do not fit exactly.
    """
    fill_from(network, recognise_state(tensors, source))


def fill_from(network: nn.Module, weights: SourceWeights) -> None:
    """Load what was read from a source, strictly; see `load_weights`."""
    backbone, head = _backbone_of(network), network.dense_layers() if isinstance(network, Network) else []
    variant = variant_of(backbone)
    if variant is not None and variant != weights.backbone:
        raise CheckpointError(f"{weights.source}: holds weights of {weights.backbone}, not of {variant}")
    foreign = foreign_names(backbone, weights.naming)
    own, tensors = _without_counters(backbone.state_dict()), _without_counters(weights.tensors)
    state = {ours: tensors[theirs] for ours, theirs in foreign.built.items() if ours in own and theirs in tensors}
    if _STEM in state:
        state[_STEM] = adapt_channels(state[_STEM], own[_STEM].shape[1])
    problems = [
        *_list("has no tensor", foreign.whole - tensors.keys()),
        *_list("has nothing for this network's", own.keys() - foreign.built.keys()),
        *_list("has tensors this network has no place for:", _left_over(own, tensors, foreign)),
        *_list(f"has another shape{_other_width(own, state)}:", _wrong_shapes(own, state)),
        *_list("has a type that no weights have in", (name for name, value in state.items() if not is_plain(value))),
        *_list("has values that are not finite in", _not_finite(state, weights)),
    ]
    if problems:
        raise CheckpointError(f"{weights.source}: {problem}" for problem in problems)
    backbone.load_state_dict(state, strict=False)  # only BatchNorm's counters are missing, as checked above
    if weights.naming in ("segzoo", "tensorflow"):
        _say_loaded(weights, state, takes_head=bool(head))
    if head:
        _load_head(head, weights)


def _backbone_of(network: nn.Module) -> nn.Module:
    return network.backbone if isinstance(network, Network) else network


def variant_of(backbone: nn.Module) -> str | None:
    """The name of a variant of the family; None for other networks."""
    if isinstance(backbone, AlignedXception):
        return timm.aligned_variant(len(backbone.full_plan), preactivation=backbone.preactivation)
    return "xception" if isinstance(backbone, Xception) else None


@dataclass(frozen=True)
class ForeignNames:
    """What a source calls our tensors.

    Args:
        built: ours to theirs, of the modules this backbone has, fewer at a smaller depth.
        whole: theirs, as a complete file holds them.
        optional: theirs too, but a file of a smaller depth does not hold them.
    """

    built: dict[str, str]
    whole: set[str]
    optional: set[str] = field(default_factory=set)


def foreign_names(backbone: nn.Module, naming: Naming) -> ForeignNames:
    """What Keras, timm, DeepLab or segzoo calls the tensors of a backbone.

    Raises:
        ConfigError: the format has no such network.
    """
    if naming == "segzoo":
        own = {name: name for name in _without_counters(backbone.state_dict())}
        return ForeignNames(own, set(own), _deeper_names(backbone))
    names = _namer(backbone, naming)
    if names is None or not isinstance(backbone, Xception):
        raise ConfigError(
            f"{type(backbone).__name__}: no {naming} weights are known for this backbone; leave weights out"
        )
    return ForeignNames(names(backbone.plan), set(names(backbone.full_plan).values()))


def _namer(backbone: nn.Module, naming: Naming) -> Callable[[tuple[PlannedBlock, ...]], dict[str, str]] | None:
    """The function from a plan to our names and theirs."""
    if isinstance(backbone, AlignedXception):
        aligned = {"timm": timm.aligned_names, "tensorflow": deeplab.backbone_names}
        return ({"timm": timm.preactivation_names} if backbone.preactivation else aligned).get(naming)
    if isinstance(backbone, Xception):
        return {"keras": keras.keras_names, "timm": timm.legacy_names}.get(naming)
    return None


def _deeper_names(backbone: nn.Module) -> set[str]:
    """Our names of tensors that a backbone of this variant has at full depth only."""
    names = _namer(backbone, "timm")
    if names is None or not isinstance(backbone, Xception):
        return set()
    return names(backbone.full_plan).keys() - names(backbone.plan).keys()


def adapt_channels(kernels: Tensor, in_channels: int) -> Tensor:
    """The first convolution's RGB kernels for images of another number of channels.

    One channel takes the sum: a gray image gives what its three equal channels gave. More repeat R, G, B in turn,
    times 3 / in_channels, so that features keep their scale.

    Shape:
        kernels: (out, 3, h, w). Returns (out, in_channels, h, w).
    """
    given = kernels.shape[1]
    if given == in_channels or given != 3:
        return kernels
    if in_channels == 1:
        return kernels.sum(dim=1, keepdim=True)
    return kernels[:, torch.arange(in_channels) % given] * (given / in_channels)


def _say_loaded(weights: SourceWeights, state: dict[str, Tensor], *, takes_head: bool) -> None:
    """Each tensor of a network that may have more than a backbone, so that nobody has to guess what was taken."""
    lines = [f"{name} {'×'.join(map(str, value.shape)) or 'one number'}" for name, value in state.items()]
    _logger.info("%s: %d tensors of the backbone loaded:\n%s", weights.source, len(lines), "\n".join(lines))
    if weights.head and not takes_head:
        _logger.info("%s: the classifier's head is left aside", weights.source)
    if weights.behind:
        _logger.info("%s: %d tensors behind the backbone are left aside", weights.source, len(weights.behind))


def _load_head(layers: Sequence[nn.Linear], weights: SourceWeights) -> None:
    """The file's head where every layer agrees, else none of it."""
    given = [tuple(layer.weight.shape) for layer in weights.head if layer.bias is not None]
    wanted = [tuple(layer.weight.shape) for layer in layers]
    if given != wanted:
        found = " and ".join(f"{inputs} → {outputs}" for outputs, inputs in given) or "none"
        _logger.warning(
            "%s: the classifier's head starts at random: the file's layers are %s, this network's %s%s",
            weights.source,
            found,
            " and ".join(f"{inputs} → {outputs}" for outputs, inputs in wanted),
            _fitting_head(given, wanted),
        )
        return
    for layer, dense in zip(layers, weights.head, strict=True):
        layer.load_state_dict({"weight": dense.weight, "bias": dense.bias})


def _fitting_head(given: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> str:
    """How to take the file's head, where its hidden layers alone are others."""
    chained = all(before[0] == after[1] for before, after in pairwise(given))
    if not given or not chained or (given[0][1], given[-1][0]) != (wanted[0][1], wanted[-1][0]):
        return ""
    return f"; fc_width={[outputs for outputs, _ in given[:-1]]} takes them"


def _left_over(own: dict[str, Tensor], tensors: dict[str, Tensor], foreign: ForeignNames) -> set[str]:
    """Names in the file that nothing here bears, or only something that is switched off."""
    unknown = tensors.keys() - foreign.whole - foreign.optional
    switched_off = {theirs for ours, theirs in foreign.built.items() if ours not in own and theirs in tensors}
    return unknown | switched_off


def _not_finite(state: dict[str, Tensor], weights: SourceWeights) -> Iterator[str]:
    yield from (name for name, value in state.items() if is_plain(value) and not value.isfinite().all())
    for layer in weights.head:
        if not all(
            is_plain(value) and value.isfinite().all() for value in (layer.weight, layer.bias) if value is not None
        ):
            yield "the classifier's head"


def _wrong_shapes(own: dict[str, Tensor], state: dict[str, Tensor]) -> Iterator[str]:
    for name, value in state.items():
        if value.shape != own[name].shape:
            yield f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"


def _other_width(own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """Why most shapes are others, where the stem has more or fewer channels."""
    if _STEM not in state or state[_STEM].shape[0] == own[_STEM].shape[0]:
        return ""
    return (
        f", as a backbone of another width has (its stem {state[_STEM].shape[0]} channels, not {own[_STEM].shape[0]})"
    )


def _list(what: str, names: Iterable[str]) -> list[str]:
    """One problem that names the first few, or none."""
    found = sorted(names)
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return [f"{what} {', '.join(found[:_LISTED])}{more}"] if found else []


def _without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out BatchNorm's count of batches, which only momentum None uses."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
