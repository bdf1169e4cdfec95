"""What a checkpoint says about itself: enough to rebuild the network and to name its output.

Plain values only (text, numbers, lists, dictionaries), so that torch reads them with `weights_only=True`.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from pydantic import ValidationError

from segzoo.backbones.weights.own import CHECKPOINT_FORMAT, check_format
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import SCHEMAS
from segzoo.config.trees import with_current_keys
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import CheckpointError, ConfigError, SegzooError, first_line
from segzoo.plugins import OWN_PARTS, how_to_allow, load_announced, not_loaded

FORMAT_VERSION = CHECKPOINT_FORMAT
"""The version of training checkpoints and of saved models, whose description is the same. A new key whose default means
what was before needs no new version: the configuration is closed, so an older segzoo refuses what it does not know."""

TRAINING_STATE = "training_state_dict"
"""Where a checkpoint keeps the weights that training goes on with, when its `state_dict` has their average."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about itself.

    Args:
        config: the resolved run; its `data.preprocessing` says how pixels become input.
        metrics: the validation's results at this step, by their keys.
        step: optimiser steps done.
        versions: of the packages that trained it.
    """

    config: AnyRunConfig
    labels: LabelSpace
    metrics: dict[str, float | None]
    step: int
    versions: dict[str, str] = field(default_factory=dict)


def describe(
    config: AnyRunConfig,
    labels: LabelSpace,
    metrics: dict[str, float | None],
    step: int,
    own_parts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A `Description` as plain values, with the versions that wrote it.

    Args:
        own_parts: "network", "loss", "optimizer" -> the class of one that the configuration does not describe.
    """
    return {
        **({"own_parts": dict(own_parts)} if own_parts else {}),
        "format_version": FORMAT_VERSION,
        "config": config.model_dump(mode="json"),
        "labels": labels.to_dict(),
        "metrics": metrics,
        "step": step,
        "versions": versions(),
    }


def parse_description(plain: dict[str, Any], source: str, *, needs_network: bool = True) -> Description:
    """Read `describe`'s result back.

    Args:
        source: what to call it in messages.
        needs_network: whether the configuration has to describe the network.

    Raises:
        CheckpointError: a newer format, content that does not fit it, plug-ins that nobody has loaded, or a network of
            somebody's own.
    """
    found = plain.get("format_version")
    check_format(found, source)
    load_announced()
    config = plain.get("config")
    missing = not_loaded(config.get("plugins") if isinstance(config, dict) else None)
    if missing:
        raise CheckpointError(f"{source}: {how_to_allow(missing)}")
    own = plain.get("own_parts")
    if needs_network and isinstance(own, dict) and "network" in own:
        raise CheckpointError(
            f"{source}: its network is a module of your own ({own['network']}), which no configuration describes. "
            "SegmentationTask.load_from_checkpoint takes one beside the file: network=..."
        )
    try:
        task = plain["config"].get("task", "segmentation")  # the first checkpoints did not say
        labels = LabelSpace.from_dict(plain["labels"])
        if SCHEMAS[task].has_colors and not labels.palette:
            raise ValueError("its classes have no colours")
        return Description(
            config=SCHEMAS[task].model_validate(_with_current_keys(plain["config"])),
            labels=labels,
            metrics={_text(name): _number(value) for name, value in plain["metrics"].items()},
            step=int(plain["step"]),
            versions={_text(name): _text(value) for name, value in plain.get("versions", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SegzooError) as error:
        raise CheckpointError(f"{source}: its description does not fit format {found} ({_reason(error)})") from None


def _with_current_keys(config: dict[str, Any]) -> dict[str, Any]:
    try:
        return with_current_keys(config)
    except ConfigError as error:  # a value that no configuration can hold
        raise ConfigError(f"config.{problem}" for problem in error.problems) from None


def _reason(error: Exception) -> str:
    """What does not fit, in one line: pydantic's own first line only counts problems."""
    if not isinstance(error, ValidationError):
        return first_line(error)
    detail = error.errors()[0]
    advice = f". {OWN_PARTS}" if detail["type"] == "extra_forbidden" else ""
    return f"config.{'.'.join(map(str, detail['loc']))}: {detail['msg']}{advice}"


def _text(value: object) -> str:
    """A name; `str` would write lists of lists of lists out, which take no room in a file."""
    if not isinstance(value, str):
        raise TypeError("a name is no text")
    return value


def _number(value: object) -> float | None:
    """A metric; `float` would take text too."""
    if value is not None and not isinstance(value, int | float):
        raise TypeError(f"a metric is {type(value).__name__}, no number")
    return value


def versions() -> dict[str, str]:
    """Versions of what computes: for checkpoints and environment.json."""
    packages = ("xception-segzoo", "lightning", "torchmetrics", "segmentation-models-pytorch", "albumentations")
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{name: version(name) for name in packages},
    }
