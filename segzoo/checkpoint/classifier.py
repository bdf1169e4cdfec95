"""A trained classifier, read back from its checkpoint."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segzoo.backbones.classifier import Classifier
from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import build_strictly, read_trained
from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.schema import Preprocessing
from segzoo.data.labels import LabelSpace
from segzoo.errors import CheckpointError
from segzoo.models.classifier import build_configured_classifier


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier with everything needed to use it.

    Args:
        classifier: in evaluation mode.
        description: configuration, labels and metrics.
        config: the run it was trained in.
        path: the file it came from.
    """

    classifier: Classifier
    description: Description
    config: ClassificationRunConfig
    path: Path

    @property
    def labels(self) -> LabelSpace:
        """The classes."""
        return self.description.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels become input."""
        return self.config.data.preprocessing


def load_classifier(checkpoint: str | Path, *, averaged: bool = True) -> TrainedClassifier:
    """Rebuild the classifier of a checkpoint, in evaluation mode, on the CPU.

    Args:
        checkpoint: a `.ckpt` or a run directory; see `find_checkpoint`.
        averaged: as for `load_segmenter`.

    Raises:
        ConfigError: no such path.
        CheckpointError: refused, with the reason.
    """
    found = read_trained(checkpoint, averaged=averaged)
    config = found.description.config
    if not isinstance(config, ClassificationRunConfig):
        raise CheckpointError(f"{found.path}: a segmenter, not a classifier. segzoo.load_segmenter reads it.")
    build = partial(
        build_configured_classifier,
        config.model,
        found.labels.num_classes,
        in_channels=config.data.channels,
        pretrained=False,
    )
    classifier = build_strictly(build, found)
    return TrainedClassifier(classifier.eval(), found.description, config, found.path)
