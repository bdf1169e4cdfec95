"""What a checkpoint says about itself: enough to rebuild the network and to name its output.

Plain values only (text, numbers, lists, dictionaries), so that torch reads them with `weights_only=True`.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from pydantic import ValidationError

from segzoo.config.schema import RunConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import CheckpointError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about itself.

    Args:
        config: the resolved run; its `data.preprocessing` says how pixels become input.
        labels: classes, palette and ignore index.
        metrics: the validation's results at this step, by their keys.
        step: optimiser steps done.
    """

    config: RunConfig
    labels: LabelSpace
    metrics: dict[str, float | None]
    step: int


def describe(config: RunConfig, labels: LabelSpace, metrics: dict[str, float | None], step: int) -> dict[str, Any]:
    """A `Description` as plain values, with the versions that wrote it."""
    return {
        "format_version": FORMAT_VERSION,
        "config": config.model_dump(mode="json"),
        "labels": labels.to_dict(),
        "metrics": metrics,
        "step": step,
        "versions": versions(),
    }


def parse_description(plain: dict[str, Any]) -> Description:
    """Read `describe`'s result back.

    Raises:
        CheckpointError: a newer format, or content that does not fit it.
    """
    found = plain.get("format_version")
    if not isinstance(found, int) or found > FORMAT_VERSION:
        raise CheckpointError(
            f"format_version is {found}; this segzoo reads up to {FORMAT_VERSION}. Update segzoo to read it."
        )
    try:
        return Description(
            config=RunConfig.model_validate(plain["config"]),
            labels=LabelSpace.from_dict(plain["labels"]),
            metrics=dict(plain["metrics"]),
            step=int(plain["step"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"its description does not fit format {found} ({first})") from None


def versions() -> dict[str, str]:
    """Versions of what computes: for checkpoints and environment.json."""
    packages = (
        "xception-segzoo",
        "lightning",
        "torchmetrics",
        "segmentation-models-pytorch",
        "albumentations",
    )
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{name: version(name) for name in packages},
    }
