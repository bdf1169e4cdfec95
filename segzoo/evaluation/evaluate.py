"""Measuring a checkpoint on a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segzoo.checkpoint.read import find_checkpoint
from segzoo.errors import ConfigError
from segzoo.evaluation.evaluator import Evaluator, Job, default_output
from segzoo.evaluation.files import check_results
from segzoo.evaluation.prepare import prepare
from segzoo.evaluation.processes import count_split, launched_processes
from segzoo.inference.engines.base import Precision
from segzoo.log import show_log
from segzoo.tasks.processes import is_first_process


def evaluate(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: str | Path | None = None,
    averaged: bool = True,
    engine: str = "torch",
    precision: Precision = "fp32",
    boundary: bool = False,
    processes: int = 1,
    report: bool = False,
    overwrite: bool = False,
    command: str | None = None,
) -> Any:
    """Measure a checkpoint: a segmenter on whole images at their original resolution, a classifier on their centres.

    Neither the batch size nor the number of processes changes a number beyond the network's own rounding, which masks
    do not show. Several of torchrun's processes share the images, too; each returns the same, and the first one writes.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model's folder, or `owner/name` on the Hugging Face hub.
        overrides: `key=value` changes to the configuration it was trained with, such as `data.root=...`,
            `evaluation.tta=true` or `model.eval_output_stride=8`.
        split: which split; None takes `evaluation.split`, else `data.val_split`.
        output: folder for the files; None takes <run directory>/evaluation/<split>.
        averaged: of a run with `optimizer.ema_decay`, take the averaged weights; False those that training goes on
            with.
        engine: what computes, as in `Predictor`.
        precision: fp32 or bf16.
        boundary: of a segmenter boundary IoU and F-score too, which takes longer.
        processes: how many share the images, each with a network of its own. A script that asks for several needs
            `if __name__ == "__main__":` around what it does.
        report: write report.html too.
        overwrite: replace an evaluation that is in the folder.
        command: the command line that asks for this, for the report.

    Returns:
        An `Evaluation`, or of a classifier a `ClassEvaluation`.

    Raises:
        ConfigError: no such checkpoint, key, data set, split or engine, other classes than it was trained on, or an
            evaluation that would be replaced.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong, or a process was killed.
    """
    show_log()
    if processes < 1:
        raise ConfigError(f"--processes: {processes}; take 1 or more.")
    path = find_checkpoint(checkpoint)
    with launched_processes(processes):
        evaluator = prepare(Job(path, tuple(overrides), split, averaged, engine, precision, boundary))
        evaluator.announce()
        folder = Path(output) if output else default_output(path, evaluator.split)
        check_results(folder, evaluator.config.data, report=report, overwrite=overwrite)
        return measure(evaluator, folder, processes=processes, report=report, command=command)


def measure(evaluator: Evaluator, output: Path, *, processes: int, report: bool, command: str | None) -> Any:
    """Count, score and write: `evaluate` for a network and images that stand ready.

    Args:
        evaluator: the network and the images.
        output: folder for the files.
        processes: as in `evaluate`.
        report: as in `evaluate`.
        command: as in `evaluate`.
    """
    images = count_split(evaluator, processes)
    result = evaluator.evaluation(images, output, command)
    if is_first_process():
        evaluator.write(result, images, report=report)
    return result


evaluate_classifier = evaluate
"""The same by another name, for those who look for it."""
