"""What a network's scores have to be."""

import torch
from torch import Tensor

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
