"""Networks the backbone tests share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segzoo.backbones import Backbone, build_backbone
from segzoo.backbones.layers import variance_preserving

VARIANTS = ("xception", "xception41", "xception41p", "xception65", "xception65p", "xception71")


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def image() -> Tensor:
    """Odd sizes, two images, in the range the networks expect."""
    return torch.rand(2, 3, 97, 129, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="session")
def trained_like(scatter: Callable[[nn.Module], None]) -> Callable[[str], dict[str, Tensor]]:
    """State of a narrow variant with scattered norms, so that no layer is trivial."""
    states: dict[str, dict[str, Tensor]] = {}

    def state(name: str) -> dict[str, Tensor]:
        if name not in states:
            torch.manual_seed(2)
            network = build_backbone(name, width=0.25)
            network.apply(variance_preserving)  # DeepLab's own start fades with statistics that are not the data's
            scatter(network)
            states[name] = network.state_dict()
        return states[name]

    return state


@pytest.fixture(scope="session")
def narrow(trained_like: Callable[[str], dict[str, Tensor]]) -> Callable[[str, int], Backbone]:
    """The same narrow weights at any output stride, in evaluation mode."""

    def build(name: str, output_stride: int) -> Backbone:
        with torch.device("meta"):
            network = build_backbone(name, width=0.25, output_stride=output_stride)
        network.load_state_dict(trained_like(name), assign=True)
        return network.eval()

    return build


def relative_difference(left: Tensor, right: Tensor) -> float:
    return ((left - right).abs().max() / right.abs().max()).item()


@pytest.fixture(scope="session")
def difference() -> Callable[[Tensor, Tensor], float]:
    """Largest difference over the largest value."""
    return relative_difference
