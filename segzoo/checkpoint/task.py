"""What a checkpoint was trained for."""

from pathlib import Path

from segzoo.checkpoint.read import find_checkpoint, read_checkpoint, read_description


def task_of(checkpoint: str | Path) -> str:
    """`segmentation` or `classification`, which decides what reads the checkpoint.

    Args:
        checkpoint: a `.ckpt`, a run directory or a saved model; see `find_checkpoint`.

    Raises:
        ConfigError: no such path, or no download.
        CheckpointError: refused, with the reason.
    """
    path = find_checkpoint(checkpoint)
    return read_description(read_checkpoint(path), path).config.task
