"""Image classification on a backbone: what the Xception paper trains and measures."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from segzoo.backbones.spec import Backbone, Network
from segzoo.errors import ConfigError, shortened

MAX_CLASSES = 10**6
MAX_LAYER = 2**16


class Classifier(Network):
    """A backbone, global average pooling, optional fully connected layers, dropout, and class scores.

    `build_classifier` explains the arguments.

    Raises:
        ConfigError: a value is out of range.

    Source: Chollet, arXiv:1610.02357v3: section 3 and Fig. 5 (pooling, optional layers, logistic regression), section
    4.3 (dropout), section 4.5.1 with Fig. 7 and 8 (two layers of 4096 units).
    """

    score_axes = ("batch", "classes")

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int = 1000,
        *,
        dropout: float = 0.5,
        fc_width: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(backbone)
        problems = []
        if not 1 <= num_classes <= MAX_CLASSES:
            problems.append(f"num_classes is {shortened(str(num_classes))}; it must be 1 to {MAX_CLASSES}")
        if not 0 <= dropout < 1:
            problems.append(f"dropout is {dropout}; it must be at least 0 and below 1")
        widths = _widths(fc_width)
        if any(not 1 <= width <= MAX_LAYER for width in widths):
            problems.append(f"fc_width is {shortened(str(fc_width))}; it must be 1 to {MAX_LAYER}")
        if problems:
            raise ConfigError(problems)
        channels = backbone.feature_specs[-1].channels
        self.fully_connected = nn.Sequential()
        for inputs, outputs in pairwise((channels, *widths)):
            self.fully_connected.extend([nn.Linear(inputs, outputs), nn.ReLU()])
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear((channels, *widths)[-1], num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores (N, num_classes) of images (N, in_channels, H, W)."""
        return self.scores(self.backbone(image)[-1])

    def scores(self, features: Tensor) -> Tensor:
        """Class scores (N, num_classes) by the backbone's deepest feature map (N, C, H, W)."""
        scores: Tensor = self.logits(self.dropout(self.fully_connected(features.mean(dim=(2, 3)))))
        return scores

    def dense_layers(self) -> list[nn.Linear]:
        """The fully connected layers in front of the class scores, then the class scores' own."""
        return [layer for layer in (*self.fully_connected, self.logits) if isinstance(layer, nn.Linear)]


def _widths(fc_width: int | Sequence[int] | None) -> tuple[int, ...]:
    if fc_width is None:
        return ()
    return (fc_width, fc_width) if isinstance(fc_width, int) else tuple(fc_width)
