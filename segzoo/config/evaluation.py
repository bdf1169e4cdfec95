"""How results are measured."""

from segzoo.config.fields import PositiveInt, Section


class EvaluationConfig(Section):
    """How validation and tools/evaluate.py measure: whole images, original resolution, one confusion matrix."""

    batch_size: PositiveInt = 1
    """Images read at a time; those of equal size run together. Does not change any number."""
    split: str | None = None
    """Split that tools/evaluate.py measures; null takes data.val_split."""
