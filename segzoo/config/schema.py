"""The schema of a configuration: every key, its type, default, unit and meaning. The only home of defaults.

Models are closed (an unknown key is an error) and strict (a string is no number). Names of backbones, decoders
and data sets are open, because a user's script may register its own: `load.py` checks them against the registries.
The sections live beside this module (`data.py`, `model.py`, `training.py`, `evaluation.py`), and other packages import
them from here. Image classification has `data`, `model`, `loss` and `evaluation` sections of its own, in
`classification.py`.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from segzoo.config.data import DataConfig, FolderConfig, Preprocessing, SharedDataConfig, SyntheticConfig
from segzoo.config.evaluation import EvaluationConfig
from segzoo.config.model import BackboneConfig, ModelConfig
from segzoo.config.sections import FilePath, ListOf, Section, Seed
from segzoo.config.training import (
    DiceConfig,
    FocalConfig,
    HardPixelConfig,
    LossConfig,
    LovaszConfig,
    OptimizerConfig,
    TrainerConfig,
)

__all__ = [
    "BackboneConfig",
    "DataConfig",
    "DiceConfig",
    "EvaluationConfig",
    "FocalConfig",
    "FolderConfig",
    "HardPixelConfig",
    "LossConfig",
    "LovaszConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Preprocessing",
    "RunConfig",
    "Section",
    "SharedRunConfig",
    "SyntheticConfig",
    "TrainerConfig",
]


MAX_STAGES = 100
MAX_PLUGINS = 100


class SharedRunConfig(Section):
    """What the runs of every task have in common; in this order, which their own sections keep."""

    has_colors: ClassVar[bool] = True  # whether its classes have colours
    weights_settings: ClassVar[tuple[str, ...]] = ("norm_eps", "padding")  # of model.backbone, that weights determine

    task: Literal["segmentation", "classification"]
    data: SharedDataConfig
    model: Section
    loss: Section
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights move."""
    trainer: TrainerConfig
    """How long, how often, on what."""
    evaluation: Section
    run_dir: FilePath | None = None
    """Folder of this run; null is runs/<config>/<time>."""
    seed: Seed = 0
    """Seed of weights, sample order and augmentation."""
    plugins: Annotated[ListOf[FilePath], Field(max_length=MAX_PLUGINS)] = ()
    """Code of your own that registers parts, imported before they are looked up: Python files, beside the configuration
    or here, and modules, such as [my_parts.py, my_package.parts]. `--plugin` of every command adds one."""
    stages: Annotated[ListOf[dict[str, Any]], Field(max_length=MAX_STAGES)] = ()
    """Several runs in a row, each a list item with its changes to the keys above, such as [{}, {model: {output_stride:
    8, norm: frozen}, optimizer: {learning_rate: 0.001}}]. Each begins with the best network of the one before."""

    @property
    def images_per_step(self) -> int:
        """Images whose gradient moves the weights once, over all processes."""
        return self.data.batch_size * self.trainer.accumulate


class RunConfig(SharedRunConfig):
    """One run of a segmenter: data, model, loss, optimizer, trainer, evaluation."""

    task: Literal["segmentation"] = "segmentation"
    """What is learnt: segmentation, a class for each pixel; or classification, a class for each image, whose data,
    model, loss and evaluation sections have keys of their own."""
    data: DataConfig
    """Where images and masks come from, and what training does to them."""
    model: ModelConfig = ModelConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """What training minimises."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How results are measured."""
