"""Whether a backbone of one's own keeps its promises, seen when it is built and not when a decoder fails on it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from segzoo.backbones.spec import Backbone, FeatureSpec
from segzoo.errors import ConfigError, first_line

_SIZE = (64, 97)  # a side that every stride divides, and one that none does


def check_promises(name: str, backbone: Backbone) -> None:
    """Compare the maps of one image, in evaluation, with the backbone's `feature_specs`.

    Args:
        name: the backbone's.
        backbone: as it was built; on the meta device, where modules of one's own need not run, nothing is tried.

    Raises:
        ConfigError: it cannot take the image, or gives other maps than it promises.
    """
    parameter = next(backbone.parameters(), torch.empty(0))
    if parameter.is_meta:
        return
    image = torch.zeros(1, backbone.in_channels, *_SIZE, device=parameter.device, dtype=parameter.dtype)
    training = backbone.training
    try:
        with torch.no_grad():
            given = [tuple(tap.shape) for tap in _maps(backbone.eval()(image))]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"backbone {name}: fails on an image of {_SIZE[0]}×{_SIZE[1]} pixels ({first_line(error)})"
        ) from error
    finally:
        backbone.train(training)
    promised = [(1, spec.channels, *(-(-side // spec.stride) for side in _SIZE)) for spec in backbone.feature_specs]
    if given != promised:
        raise ConfigError(
            f"backbone {name}: its feature_specs promise maps of {_shown(promised)} for an image of {_SIZE[0]}×"
            f"{_SIZE[1]} pixels, ceil(size / stride) each, and it gives {_shown(given)}"
        )


def check_taps(name: str, specs: Sequence[FeatureSpec], output_stride: int, depth: int = 5) -> None:
    """See that a backbone has the taps that decoders count on.

    Args:
        name: the backbone's.
        specs: of its feature maps.
        output_stride: that was asked for.
        depth: number of taps.

    Raises:
        ConfigError: fewer or more taps, or other strides.
    """
    strides, wanted = [spec.stride for spec in specs], [min(2**level, output_stride) for level in range(1, depth + 1)]
    if strides != wanted:
        raise ConfigError(
            f"backbone {name}: gives {len(strides)} feature maps, of strides {strides}; decoders need {depth}, of "
            f"strides {wanted}"
        )


def _maps(taps: object) -> list[Tensor]:
    if not isinstance(taps, list | tuple) or not all(isinstance(tap, Tensor) for tap in taps):
        raise TypeError("it gives no list of tensors")
    return list(taps)


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, shape[1:])) for shape in shapes) or "none"
