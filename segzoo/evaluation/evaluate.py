"""Measuring a checkpoint on a split."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.checkpoint.read import find_checkpoint
from segzoo.data.items import WholeDataset
from segzoo.data.pixels import as_picture
from segzoo.errors import ConfigError
from segzoo.evaluation.bench import Bench, Job, default_output, prepare
from segzoo.evaluation.boundary import boundary_scores
from segzoo.evaluation.counts import ImageCounts, SplitCounts
from segzoo.evaluation.files import COUNTS, REPORT, check_results, write_metrics, write_per_image
from segzoo.evaluation.interval import miou_interval
from segzoo.evaluation.numbers import category_scores, class_scores
from segzoo.evaluation.processes import count_split, launched_processes
from segzoo.evaluation.report.pictures import Example
from segzoo.evaluation.results import Evaluation
from segzoo.inference.engines.base import Precision
from segzoo.log import show_log
from segzoo.models.limits import warn_of_other_stride
from segzoo.tasks.confusion import Scores
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
) -> Evaluation:
    """Measure a checkpoint on whole images at their original resolution.

    Neither the batch size nor the number of processes changes a number. Several of torchrun's processes share the
    images, too; each returns the same, and the first one writes.

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
        boundary: boundary IoU and F-score too, which takes longer.
        processes: how many share the images, each with a network of its own. A script that asks for several needs
            `if __name__ == "__main__":` around what it does.
        report: write report.html too.
        overwrite: replace an evaluation that is in the folder.
        command: the command line that asks for this, for the report.

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
        bench = prepare(Job(path, tuple(overrides), split, averaged, engine, precision, boundary))
        warn_of_other_stride(bench.config.model)
        folder = Path(output) if output else default_output(path, bench.split)
        check_results(folder, bench.config.data, report=report, overwrite=overwrite)
        return measure(bench, folder, processes=processes, report=report, command=command)


def measure(bench: Bench, output: Path, *, processes: int, report: bool, command: str | None) -> Evaluation:
    """Count, score and write: `evaluate` for a network and images that stand ready.

    Args:
        bench: the network and the images.
        output: folder for the files.
        processes: as in `evaluate`.
        report: as in `evaluate`.
        command: as in `evaluate`.
    """
    images = count_split(bench, processes)
    counts = SplitCounts.of(images, bench.dataset.labels.coding.table_shape)
    result = _evaluation(bench, images, counts, output, command)
    if is_first_process():
        _write(bench, counts, result, report=report)
    return result


def _evaluation(
    bench: Bench, images: Sequence[ImageCounts], counts: SplitCounts, folder: Path, command: str | None
) -> Evaluation:
    labels = bench.dataset.labels
    return Evaluation(
        scores=Scores.from_matrix(counts.matrix),
        classes=class_scores(counts.matrix),
        matrix=counts.matrix,
        labels=labels,
        images=len(images),
        output=folder,
        per_image=tuple(image.judged() for image in images),
        interval=miou_interval(counts.regions),
        boundary=None if counts.boundary is None else boundary_scores(counts.boundary),
        categories=category_scores(counts.matrix, labels),
        config=bench.config,
        protocol=bench.protocol(),
        command=command,
    )


def _write(bench: Bench, counts: SplitCounts, result: Evaluation, *, report: bool) -> None:
    (result.output / REPORT).unlink(missing_ok=True)  # one that is there shows other numbers
    counts.save(result.output / COUNTS)
    write_per_image(result)
    write_metrics(result)
    if report:
        from segzoo.evaluation.report.write import write_report  # with matplotlib, which numbers do not need

        write_report(result, lambda index: _example(bench, index), result.output)


def _example(bench: Bench, index: int) -> Example:
    """An image of the split, with what the network says of it."""
    item = WholeDataset(bench.dataset)[index]
    predicted = bench.predictor.classes(item["image"][None])[0].cpu().numpy()
    picture = as_picture(item["image"].permute(1, 2, 0).numpy())
    return Example(picture, item["mask"].numpy(), predicted)
