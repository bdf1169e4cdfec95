"""The evaluator of each task, made ready."""

from collections.abc import Mapping

from segzoo.checkpoint.read import load_trained
from segzoo.errors import DataError
from segzoo.evaluation.class_evaluator import ClassEvaluator
from segzoo.evaluation.evaluator import Evaluator, Job, changed_config
from segzoo.evaluation.mask_evaluator import MaskEvaluator

EVALUATORS: Mapping[str, type[Evaluator]] = {"segmentation": MaskEvaluator, "classification": ClassEvaluator}
"""`task` -> what measures it."""


def prepare(job: Job) -> Evaluator:
    """Load the network and list the images.

    Raises:
        ConfigError: no such key, data set or split, or other classes than it was trained on.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong.
    """
    source = load_trained(job.checkpoint, averaged=job.averaged)
    kind = EVALUATORS[source.config.task]
    config = changed_config(source.config, job.overrides, kind.changeable)
    evaluator = kind.of(job, source, config, job.split or config.evaluation.split or config.data.val_split)
    if len(evaluator.index_of) < len(evaluator.dataset):
        raise DataError(
            f"data: {config.data.name} has images of one id in split '{evaluator.split}'; each needs its own."
        )
    return evaluator
