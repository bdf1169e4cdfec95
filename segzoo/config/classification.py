"""Image classification (`task: classification`): its `model`, `loss` and `evaluation` sections, and such a run."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from segzoo.config.backbone import BackboneConfig, NormSettings
from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.config.evaluation import MetricNames
from segzoo.config.fields import BatchSize, ClassWeights, FilePath, Section, list_to_tuple
from segzoo.config.schema import RunConfig, SharedRunConfig

_Units = Annotated[int, Field(ge=1, le=2**16)]


class ClassifierModelConfig(NormSettings):
    """The network: a backbone, global average pooling, class scores."""

    weights: FilePath | None = None
    """Checkpoint or run directory whose whole classifier this run starts from, instead of backbone.weights; with other
    classes, the layer that gives class scores starts anew. It has to be of the same backbone."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Probability of dropping a number before the class scores, in training: 0.5 in Xception's ImageNet recipe, 0 in
    its JFT recipe."""
    fc_width: _Units | Annotated[tuple[_Units, ...], BeforeValidator(list_to_tuple), Field(max_length=16)] | None = None
    """Widths of the fully connected layers with ReLU between pooling and class scores: [100] is one of 100. A number is
    the width of two, 4096 in Xception's JFT runs; null has none."""
    frozen_modules: Annotated[int, Field(ge=0, le=1000)] | Literal["all"] = 0
    """So many of the backbone's first modules stay as loaded, BatchNorm statistics included; the stem is the first,
    Chollet's network has 14. all trains what is behind the backbone only."""
    backbone: BackboneConfig = BackboneConfig()
    """The feature extractor. Of a checkpoint it takes the backbone alone, of a segmenter as well as of a classifier."""


class ClassificationLossConfig(Section):
    """Cross-entropy; where an image may have several classes (multi-label), binary cross-entropy of each class."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes; multi-label: over yes and no."""
    class_weights: ClassWeights | None = None
    """Weight of each class, in their order; null weighs all images alike."""


class ClassifierEvaluationConfig(Section):
    """How validation and `segzoo evaluate` measure."""

    metrics: MetricNames = ()
    """Metrics that a validation measures too, into metrics.csv and logs, such as [mean_accuracy]; those of your own,
    `segzoo.register_metric`, among them. `segzoo evaluate` has all."""
    batch_size: BatchSize = 16
    """Images that run together. Does not change any number."""
    split: FilePath | None = None
    """Split that `segzoo evaluate` measures; null takes data.val_split."""
    class_weights: ClassWeights | None = None
    """Weight of each class in MAP@100, in their order: how much it matters. null takes how many of the split's images
    have it. Changes no other number."""

    def with_less_memory(self) -> str:
        """The key of this section, with a value, that makes an evaluation take less memory."""
        return f"batch_size={max(1, self.batch_size // 2)}"


class ClassificationRunConfig(SharedRunConfig):
    """One run of a classifier."""

    has_colors: ClassVar[bool] = False
    weights_settings: ClassVar[tuple[str, ...]] = (*SharedRunConfig.weights_settings, "stem_padding")

    task: Literal["classification"]
    """What is learnt: a class for each image, or several."""
    data: ClassificationDataConfig
    """Where images and classes come from, and what training does to them."""
    model: ClassifierModelConfig = ClassifierModelConfig()
    """The network."""
    loss: ClassificationLossConfig = ClassificationLossConfig()
    """What training minimises."""
    evaluation: ClassifierEvaluationConfig = ClassifierEvaluationConfig()
    """How results are measured."""

    @property
    def images_per_step(self) -> int:
        """Images whose gradient moves the weights once, over all processes."""
        return self.data.batch_size * self.trainer.accumulate


AnyRunConfig = RunConfig | ClassificationRunConfig
"""A run of either task."""
