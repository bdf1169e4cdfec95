"""Tasks as a run trains them: compiled, and validated by tiles, where the configuration says so."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.classification import AnyRunConfig
from segzoo.errors import ConfigError
from segzoo.inference.tile_size import choose_tile
from segzoo.inference.tiles import Tiling, tiled
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.classification import ClassificationTask
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.tasks.task import Task

_COMPILERS = ("g++", "clang++", "c++", "cl")


class RunTask(SegmentationTask):
    """Segmentation in a run."""

    def _plan_evaluation(self) -> tuple[Segmenter]:
        """As without compiling; a network at a stride of its own is new at each validation."""
        (planned,) = super()._plan_evaluation()
        if self.config.trainer.compile and planned is not self.segmenter:
            compile_parts((planned.backbone, planned.decoder))
        return (planned,)

    def predicted(self, image: Tensor, ids: Sequence[str]) -> Tensor:
        """As without tiles where `evaluation.tile` has none or an image is one; the scores are never whole."""
        evaluation = self.config.evaluation
        tile = self._auto_tile() if evaluation.tile == "auto" else evaluation.tile
        if tile is None or max(image.shape[-2:]) <= tile:
            return super().predicted(image, ids)
        tiling = Tiling(tile, evaluation.tile_overlap)
        predict_mask = self.labels.coding.predict_mask
        return tiled(lambda part: self.checked_scores(self(part), ids), image, tiling, predict_mask).to(image.device)

    def _auto_tile(self) -> int:
        about = Description(self.config, self.labels, {}, 0)
        return choose_tile(TrainedSegmenter(self.segmenter, about, Path()), self.device)


RUN_TASKS: Mapping[str, Callable[..., Task]] = {"segmentation": RunTask, "classification": ClassificationTask}
"""`task` -> what trains it."""


def compile_parts(parts: Iterable[nn.Module]) -> None:
    """Have torch compile parts of a network when they first run; names and weights stay."""
    for part in parts:
        part.compile()


def check_compiler(config: AnyRunConfig) -> None:
    """Refuse to compile where torch would find no compiler after minutes.

    Raises:
        ConfigError: there is none.
    """
    named = os.environ.get("CXX")
    if config.trainer.compile and not any(map(shutil.which, (named,) if named else _COMPILERS)):
        raise ConfigError(
            f"trainer.compile: torch.compile needs a C++ compiler, and {named or ' or '.join(_COMPILERS[:2])} is not "
            "installed. Install one, or take trainer.compile=false."
        )
