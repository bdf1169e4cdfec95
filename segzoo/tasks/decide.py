"""From a network's scores to classes: one a pixel, or each class decided on its own."""

import torch
from torch import Tensor

from segzoo.data.labels import LabelSpace
from segzoo.errors import DataError


def check_scores(scores: Tensor) -> Tensor:
    """The scores, which have to be numbers: of NaN every comparison is false, so that class 0 would win everywhere.

    Raises:
        DataError: one is NaN or infinite.
    """
    if not torch.stack(torch.aminmax(scores)).isfinite().all():  # both are NaN where any score is
        raise DataError(
            "the network's scores are no numbers (NaN or infinite), so there is no class to choose. Look at the "
            "weights, at data.preprocessing, and at the values of the image"
        )
    return scores


def decide(scores: Tensor, labels: LabelSpace) -> Tensor:
    """The mask that scores stand for.

    Args:
        scores: logits; log-odds where classes are decided each on its own.
        labels: the classes.

    Shape:
        (N, K, H, W) to uint8 class indices (N, H, W); multi-label to uint8 (N, K, H, W), 1 where a class is more
        probable than not.

    >>> scores = torch.tensor([[[[2.0, -1.0]], [[1.0, -2.0]]]])
    >>> decide(scores, LabelSpace.from_names(["road", "car"])).tolist()
    [[[0, 0]]]
    >>> decide(scores, LabelSpace.from_names(["dog", "animal"], multi_label=True)).tolist()
    [[[[1, 0]], [[1, 0]]]]
    """
    # The same as `argmax`, which takes five times as long on the CPU.
    return (scores > 0 if labels.multi_label else scores.max(1).indices).to(torch.uint8)


def probabilities(scores: Tensor, labels: LabelSpace) -> Tensor:
    """The probability of every class: softmax, or a sigmoid of each where a pixel may have several.

    Shape:
        (N, K, H, W), as `decide` takes it, to float32 (N, K, H, W).
    """
    scores = scores.float()
    return scores.sigmoid() if labels.multi_label else scores.softmax(1)
