"""The paper's experiments from configuration to report: runs, curves, tables, what was found beside what was said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from laboratory.experiments.crops import write_crops
from laboratory.experiments.paper import PAPER, Experiment, Measure, Variant
from laboratory.experiments.results import Network, chance_level, finished_networks, verdict
from laboratory.experiments.runs import Run, plan_runs, train_runs
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.sample import ClassificationDataset
from segzoo.escapes import Column, markdown_table
from segzoo.files import atomic_write, check_outputs, make_output, write_atomically

REPORT = "report.md"

_DPI = 120

_COLUMNS: tuple[Column[Network], ...] = (
    Column("network", lambda network: network.variant.title, words=True),
    Column("parameters", lambda network: f"{network.parameters:,}"),
    Column("multiply-adds", lambda network: f"{network.macs / 1e6:,.1f} M"),
    Column("top-1 at the end, %", lambda network: network.spread(Measure.FINAL).percent()),
    Column("over the run, %", lambda network: network.spread(Measure.AVERAGE).percent()),
    Column("images/s", lambda network: f"{network.images_per_second:,.0f}"),
    Column("seeds", lambda network: str(len(network.curves))),
)


@dataclass(frozen=True)
class Outcome:
    """What the experiments came to.

    Args:
        markdown: the report.
        file: where it is.
        failed: a line for each run that could not be finished.
    """

    markdown: str
    file: Path
    failed: tuple[str, ...]


def run_experiments(config: AnyRunConfig, experiments: Sequence[Experiment], *, seeds: int, output: Path) -> Outcome:
    """Train what is not finished, then draw and write report.md.

    Args:
        config: what all runs share; without `data.root` they learn the built-in task, which is drawn into `output`.
        experiments: which.
        seeds: runs of each network.
        output: folder of runs, curves and report.

    Raises:
        ConfigError: the request cannot be met.
        InterruptedTrainingError: a signal stopped it; the same call goes on.
    """
    output = output.resolve()  # a run's configuration holds it, wherever the next call comes from
    config = _with_data(config, output)
    runs = plan_runs(config, experiments, seeds=seeds, output=output)
    drawn = [output / REPORT, *(output / f"{experiment.name}.png" for experiment in experiments)]
    check_outputs(drawn, overwrite=any(run.folder.config.is_file() for run in runs))  # else they are somebody else's
    make_output(output)
    if config.data.root == str(_drawn(output)):
        write_crops(_drawn(output))
    data = runs[0].config.data
    splits = tuple(build_classification_dataset(data, split) for split in (data.train_split, data.val_split))
    failed = train_runs(runs)
    return _report(runs, experiments, splits, output, tuple(failed))


def network_table(networks: Sequence[Network]) -> str:
    """A Markdown table, one line for each network."""
    return markdown_table(_COLUMNS, networks)


def draw_experiment(title: str, networks: Sequence[Network], target: Path) -> None:
    """Draw accuracy over steps: the mean over the seeds, its deviation shaded.

    Args:
        title: above the curves.
        networks: at least one.
        target: PNG to write.
    """
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    others = iter(f"C{number}" for number in range(1, len(networks) + 1))
    for network in networks:
        curves = 100 * np.array([curve.top1 for curve in network.curves])
        steps, mean = network.curves[0].steps, curves.mean(0)
        papers = network.variant == PAPER  # looks the same in all drawings
        color, width = ("black", 2.2) if papers else (next(others), 1.5)
        label = f"{network.variant.title}, {mean[-1]:.1f} %"
        axes.plot(steps, mean, color=color, linewidth=width, marker=".", label=label)
        if len(curves) > 1:
            deviation = curves.std(0, ddof=1)
            axes.fill_between(steps, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0)
    seeds = max(len(network.curves) for network in networks)
    shaded = f"; mean of {seeds} seeds, deviation shaded" if seeds > 1 else ""
    axes.set(title=title, xlabel=f"step{shaded}", ylabel="validation top-1, %")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=9)
    with atomic_write(target) as part:
        figure.savefig(part, format="png", dpi=_DPI)


def _drawn(output: Path) -> Path:
    return output / "pictures"


def _with_data(config: AnyRunConfig, output: Path) -> AnyRunConfig:
    if not isinstance(config, ClassificationRunConfig):
        return config
    root = _drawn(output) if config.data.root is None else Path(config.data.root).resolve()
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(root)})})


def _report(
    runs: Sequence[Run],
    experiments: Sequence[Experiment],
    splits: Sequence[ClassificationDataset],
    output: Path,
    failed: tuple[str, ...],
) -> Outcome:
    networks = finished_networks(runs, splits[0].labels)
    chance = chance_level(splits[1].classes)
    parts = [_settings(runs, splits)]
    for experiment in experiments:
        own = [networks[variant] for variant in experiment.variants if variant in networks]
        if own:
            draw_experiment(experiment.title, own, output / f"{experiment.name}.png")
        parts.append(_section(experiment, own, networks, chance))
    parts += [f"* not finished: {line}" for line in failed]
    markdown, file = "\n\n".join(parts), output / REPORT
    write_atomically(file, f"{markdown}\n".encode())
    return Outcome(markdown, file, failed)


def _section(experiment: Experiment, own: Sequence[Network], networks: Mapping[Variant, Network], chance: float) -> str:
    table = network_table(own) if own else "No finished run."
    curves = [f"![{experiment.title}]({experiment.name}.png)"] if own else []
    found = "\n".join(f"* {verdict(comparison, networks, chance)}" for comparison in experiment.comparisons)
    return "\n\n".join([f"## {experiment.title}", table, *curves, found])


def _settings(runs: Sequence[Run], splits: Sequence[ClassificationDataset]) -> str:
    config, (training, validation) = runs[0].config, splits
    seeds = len({run.config.seed for run in runs})
    data, optimizer, backbone = config.data, config.optimizer, config.model.backbone
    height, width = data.image_size
    return (
        f"# The Xception paper's experiments\n\n"
        f"{len(training):,} training and {len(validation):,} validation images of {training.labels.num_classes} "
        f"classes, {height}×{width} pixels; {backbone.name} at width {backbone.width:g}, {config.trainer.max_steps} "
        f"steps of {data.batch_size} images, {optimizer.name} at {optimizer.learning_rate:g}, {seeds} seeds from "
        f"{config.seed}. All runs share these settings; only the switch and the seed differ. They were not tuned for "
        'each network, as in the paper, which says that this "may be uncharitable" to the one without residuals.\n\n'
        "± is the standard deviation over seeds. A difference counts where it is larger than the spread, which is the "
        'root of the sum of both squared deviations. "Over the run" is the mean of all validations: high where '
        f"training is fast. Chance is {100 * chance_level(validation.classes):.1f} %."
    )
