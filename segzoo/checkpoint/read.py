"""Reading checkpoints safely: no pickled objects, names from registries, strict weights."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from segzoo.backbones.weights.own import CHECKPOINTS
from segzoo.backbones.weights.recognise import read_pickle
from segzoo.checkpoint.format import Description, parse_description
from segzoo.config.schema import Preprocessing, RunConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import CheckpointError, ConfigError, first_line
from segzoo.models.build import build_segmenter
from segzoo.models.evaluation import evaluation_config
from segzoo.models.segmenter import Segmenter

PREFIX = "segmenter."
"""Where the network's weights stand in a training checkpoint."""


@dataclass(frozen=True)
class TrainedSegmenter:
    """A network with everything needed to use it.

    Args:
        segmenter: in evaluation mode.
        description: configuration, labels and metrics.
        path: the file it came from.
    """

    segmenter: Segmenter
    description: Description
    path: Path

    @property
    def config(self) -> RunConfig:
        """The run it was trained in."""
        return self.description.config

    @property
    def labels(self) -> LabelSpace:
        """Classes, palette and ignore index."""
        return self.description.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels become input."""
        return self.config.data.preprocessing


def find_checkpoint(path: str | Path) -> Path:
    """The file that CHECKPOINT means: a `.ckpt`, or a run directory's best, else its last.

    Raises:
        ConfigError: nothing there.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise ConfigError(f"{path}: no such checkpoint. Name a .ckpt file or a run directory, such as runs/NAME/TIME.")
    for name in CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    raise ConfigError(f"{path}: no checkpoints/best.ckpt or last.ckpt in this folder. Name a run directory.")


def run_dir_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint lies in, if it lies in one."""
    parent = checkpoint.resolve().parent
    return parent.parent if parent.name == "checkpoints" else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, read without executing anything from it.

    Raises:
        CheckpointError: not a segzoo checkpoint, damaged, or with something in it that could run code.
    """
    content = read_pickle(path)
    if not _is_ours(content):
        raise CheckpointError(f"{path}: not a segzoo checkpoint. `tools/train.py` writes them.")
    _check_sums(path)
    return content


def _is_ours(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    description, state = content.get("segzoo"), content.get("state_dict")
    if not isinstance(description, dict) or not isinstance(state, dict):
        return False
    return all(isinstance(value, Tensor) for value in state.values())


def read_description(content: dict[str, Any], path: Path) -> Description:
    """What a checkpoint says about itself.

    Raises:
        CheckpointError: a newer format, or content that does not fit it.
    """
    try:
        return parse_description(content["segzoo"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_segmenter(checkpoint: str | Path) -> TrainedSegmenter:
    """Rebuild the network of a checkpoint, in evaluation mode and at its `model.eval_output_stride`, on the CPU.

    Args:
        checkpoint: a `.ckpt` or a run directory.

    Raises:
        ConfigError: no such path.
        CheckpointError: refused, with the reason.
    """
    path = find_checkpoint(checkpoint)
    content = read_checkpoint(path)
    description = read_description(content, path)
    model = evaluation_config(description.config.model)
    channels = description.config.data.channels
    segmenter = build_segmenter(model, description.labels.num_classes, in_channels=channels, pretrained=False)
    load_strictly(segmenter, segmenter_state(content["state_dict"]), path)
    return TrainedSegmenter(segmenter.eval(), description, path)


def segmenter_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's own entries of a training checkpoint's state."""
    return {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}


def load_strictly(segmenter: Segmenter, state: Mapping[str, Tensor], path: Path) -> None:
    """Load every tensor exactly once.

    Raises:
        CheckpointError: what is missing, left over, of another shape or not finite.
    """
    own = segmenter.state_dict()
    problems = [
        *_differences("missing", own.keys() - state.keys()),
        *_differences("left over", state.keys() - own.keys()),
        *_differences("of another shape", {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}),
        *_differences("not finite", {k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()}),
    ]
    if problems:
        raise CheckpointError(f"{path}: weights refused: {'; '.join(problems)}")
    segmenter.load_state_dict(dict(state), strict=True)


def _check_sums(path: Path) -> None:
    """Torch reads a tensor whose bytes were damaged on the disk without a word; the archive has their sums."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({first_line(error)}).") from None
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged on the disk: {damaged} is not what was written.")


def _differences(what: str, keys: set[str]) -> list[str]:
    if not keys:
        return []
    shown = ", ".join(sorted(keys)[:3])
    return [f"{len(keys)} {what} ({shown}{', ...' if len(keys) > 3 else ''})"]
