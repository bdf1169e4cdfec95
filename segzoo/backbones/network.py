"""What the networks of all tasks have in common: a backbone, and what stands behind it."""

from typing import ClassVar

from torch import nn

from segzoo.backbones.spec import Backbone


class Network(nn.Module):
    """A backbone with its head, as a task trains it and a checkpoint holds it.

    Args:
        backbone: turns images into feature maps.
    """

    score_axes: ClassVar[tuple[str, ...]]
    """What the axes of its result are."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def large_parts(self) -> list[nn.Module]:
        """The parts in which it spends its time: those worth compiling."""
        return [self.backbone]

    def dense_layers(self) -> list[nn.Linear]:
        """The fully connected layers behind the backbone, which files of published classifiers have, too."""
        return []
