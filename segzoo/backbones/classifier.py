"""Image classification on a backbone: what the Xception paper trains and measures."""

from torch import Tensor, nn

from segzoo.backbones.spec import Backbone
from segzoo.errors import ConfigError


class Classifier(nn.Module):
    """A backbone, global average pooling, optional fully connected layers, dropout, and class scores.

    Args:
        backbone: its deepest feature map is classified.
        num_classes: classes to tell apart.
        dropout: probability of dropping a feature before the class scores.
        fc_width: width of two fully connected layers with ReLU in front of the class scores; None for none.

    Raises:
        ConfigError: a value is out of range.

    Source: Chollet, arXiv:1610.02357v3: section 3 and Fig. 5 (pooling, optional layers, logistic regression), section
    4.3 (dropout), section 4.5.1 with Fig. 7 and 8 (two layers of 4096 units).
    """

    def __init__(
        self, backbone: Backbone, num_classes: int = 1000, *, dropout: float = 0.5, fc_width: int | None = None
    ) -> None:
        super().__init__()
        problems = []
        if num_classes < 1:
            problems.append(f"num_classes is {num_classes}; it must be at least 1")
        if not 0 <= dropout < 1:
            problems.append(f"dropout is {dropout}; it must be at least 0 and below 1")
        if fc_width is not None and fc_width < 1:
            problems.append(f"fc_width is {fc_width}; it must be at least 1")
        if problems:
            raise ConfigError(problems)
        channels = backbone.feature_specs[-1].channels
        self.backbone = backbone
        self.fully_connected = nn.Sequential()
        if fc_width is not None:
            self.fully_connected.extend([nn.Linear(channels, fc_width), nn.ReLU()])
            self.fully_connected.extend([nn.Linear(fc_width, fc_width), nn.ReLU()])
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(fc_width or channels, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Score the classes.

        Shape:
            image: (N, in_channels, H, W). Returns (N, num_classes).
        """
        return self.scores(self.backbone(image)[-1])

    def scores(self, features: Tensor) -> Tensor:
        """Score the classes by the backbone's deepest feature map.

        Shape:
            features: (N, C, H, W). Returns (N, num_classes).
        """
        scores: Tensor = self.logits(self.dropout(self.fully_connected(features.mean(dim=(2, 3)))))
        return scores
