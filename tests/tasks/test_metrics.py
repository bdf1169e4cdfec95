"""Metrics of one's own, wherever segzoo shows numbers; and those that torchmetrics has."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from sklearn.metrics import cohen_kappa_score, jaccard_score
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCohenKappa, MulticlassJaccardIndex

from segzoo.checkpoint.read import read_trained
from segzoo.config.load import config_from_tree
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, DataError
from segzoo.evaluation.compare import as_markdown, compare, grids
from segzoo.evaluation.evaluate import evaluate
from segzoo.tasks.metrics import METRICS, MetricSet, metrics_of, register_metric, validation_metrics
from segzoo.tasks.names import known_names
from segzoo.training.train import train

LABELS = LabelSpace.from_names(["road", "car", "sky"])

pytestmark = pytest.mark.usefixtures("own_parts")


def kappa(counts: torch.Tensor) -> torch.Tensor:
    by_chance = (counts.sum(0) * counts.sum(1)).sum() / counts.sum() ** 2
    return 1 - (1 - counts.trace() / counts.sum()) / (1 - by_chance)


class Missed(Metric):
    """The largest number of wrong pixels in an image, and how many images there were."""

    full_state_update = False

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.add_state("worst", torch.tensor(0), dist_reduce_fx="max")

    def update(self, prediction: torch.Tensor, target: torch.Tensor) -> None:
        wrong = (prediction != target) & (target != self.ignore_index)
        self.worst = torch.maximum(self.worst, wrong.flatten(1).sum(1).max())

    def compute(self) -> torch.Tensor:
        return self.worst


def batches(count: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (count, 2, 1, 9, 8), generator=generator)
    masks[:, 1, :, :2] = 255
    return [(prediction, target) for prediction, target in masks]


def joined(images: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    prediction, target = (torch.cat(masks).flatten() for masks in zip(*images, strict=True))
    return prediction[target != 255], target[target != 255]


def test_equals_scikit_learn_and_torchmetrics_however_it_is_counted() -> None:
    """All images in one batch, one by one, and counted apart and joined in any grouping."""
    register_metric("kappa", show=".3f")(kappa)
    register_metric("missed", show=".0f", higher_is_better=False)(Missed)
    register_metric("jaccard", per_class=True)(partial_jaccard())
    register_metric("cohen")(MulticlassCohenKappa)
    metrics, images = metrics_of("segmentation", LABELS), batches()
    measured = MetricSet(metrics, LABELS)
    whole = MetricSet(metrics, LABELS)
    whole.update(*(torch.cat(masks) for masks in zip(*images, strict=True)))
    states = []
    for image in images:
        one = MetricSet(metrics, LABELS)
        one.update(*image)
        states.append(one.states())
        measured.update(*image)
    found = whole.compute()
    assert measured.compute().values == found.values
    assert MetricSet(metrics, LABELS).compute_joined(list(zip(*states, strict=True))).values == found.values
    prediction, target = joined(images)
    assert found.one("kappa") == pytest.approx(cohen_kappa_score(target, prediction), rel=1e-5)
    assert found.one("cohen") == pytest.approx(cohen_kappa_score(target, prediction), rel=1e-5)
    assert found.each("jaccard") == pytest.approx(jaccard_score(target, prediction, average=None))
    assert found.each("iou") == pytest.approx(jaccard_score(target, prediction, average=None))
    wrong = [int(((p != t) & (t != 255)).sum()) for p, t in images]
    assert found.one("missed") == max(wrong)


def partial_jaccard() -> type[Metric]:
    class Jaccard(MulticlassJaccardIndex):
        def __init__(self, num_classes: int, ignore_index: int) -> None:
            super().__init__(num_classes, average="none", ignore_index=ignore_index)

    return Jaccard


def test_it_is_shown_wherever_numbers_are(tiny_run, tmp_path: Path) -> None:
    register_metric("kappa", title="Cohen's kappa", show=".3f")(kappa)
    register_metric("missed", title="wrong pixels", show=".0f", higher_is_better=False)(Missed)
    register_metric("miss_rate", title="miss rate", per_class=True, higher_is_better=False, meaning="not found")(
        lambda counts: [
            1 - hits / total if total else None for hits, total in zip(counts.diagonal(), counts.sum(1), strict=True)
        ]
    )
    results = [evaluate(tiny_run.run_dir, output=tmp_path / name, report=name == "a") for name in ("a", "b")]
    written = json.loads((tmp_path / "a" / "metrics.json").read_text())
    matrix = torch.tensor(written["confusion_matrix"])
    assert written["kappa"] == pytest.approx(float(kappa(matrix)))
    assert written["missed"] == max(round((1 - image.pixel_accuracy) * image.pixels) for image in results[0].per_image)
    recall = written["recall"]
    assert written["miss_rate"] == {
        name: None if value is None else pytest.approx(1 - value) for name, value in recall.items()
    }
    console = Console(width=200)
    with console.capture() as captured:
        console.print(*results[0].tables(worst=1))
    shown = f"{written['kappa']:.3f}"
    assert re.search(rf"Cohen's kappa +│ +{shown} │", captured.get())
    assert re.search(rf"wrong pixels +│ +{written['missed']:.0f} │", captured.get())
    assert "miss rate" in captured.get()
    page = (tmp_path / "a" / "report.html").read_text()
    assert f"<dt>Cohen&#39;s kappa</dt><dd>{shown}</dd>" in page
    assert re.search(r'data-order="ascending" title="not found">Miss rate</button>', page)
    side_by_side = as_markdown(grids(compare([tmp_path / "a", tmp_path / "b"], images=1)))
    assert f"| Cohen's kappa | {shown} | {shown} |" in side_by_side
    assert f"| wrong pixels | {written['missed']:.0f} | {written['missed']:.0f} |" in side_by_side
    assert "| miss rate of sky |" in side_by_side


def test_batches_change_no_number(tiny_run, tmp_path: Path) -> None:
    register_metric("missed")(Missed)
    found = [
        evaluate(tiny_run.run_dir, [f"evaluation.batch_size={size}"], output=tmp_path / str(size)).measured.values
        for size in (1, 5)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("own", "line"),
    [
        (lambda counts: counts.nothing, "metric mine: AttributeError: 'Tensor' object has no attribute 'nothing'"),
        (lambda counts: "much", "metric mine: ValueError: could not convert string to float: 'much'"),
        (lambda counts: counts.sum(0), "metric mine: ValueError: only one element"),
    ],
)
def test_a_function_that_fails_is_one_line(own, line: str) -> None:
    register_metric("mine")(own)
    measured = MetricSet(metrics_of("segmentation", LABELS), LABELS)
    measured.update(*batches()[0])
    with pytest.raises(DataError, match=f"^{line}"):
        measured.compute()


def test_a_number_for_each_class_is_asked_for_as_such() -> None:
    register_metric("mine", per_class=True)(lambda counts: [0.5])
    measured = MetricSet(metrics_of("segmentation", LABELS), LABELS)
    measured.update(*batches()[0])
    with pytest.raises(DataError, match=r"^metric mine: gave 1 numbers for 3 classes"):
        measured.compute()


def test_what_is_no_number_is_nothing_to_judge() -> None:
    register_metric("mine")(lambda counts: torch.tensor(float("nan")))
    register_metric("other")(lambda counts: None)
    measured = MetricSet(metrics_of("segmentation", LABELS), LABELS)
    measured.update(*batches()[0])
    found = measured.compute()
    assert [found.one("mine"), found.one("other")] == [None, None]


def test_wrong_registrations_are_refused() -> None:
    with pytest.raises(ConfigError, match="'miou' is registered already"):
        register_metric("miou")(kappa)
    with pytest.raises(ConfigError, match="'images': metrics.json has another thing of that name"):
        register_metric("images")
    with pytest.raises(ConfigError, match="show='.3q' shows no number"):
        register_metric("mine", show=".3q")

    class Plain(Metric):
        """Takes no classes."""

    class Chained(Missed):
        full_state_update = True

    register_metric("plain")(Plain)
    with pytest.raises(ConfigError, match="metric plain: its class has to take num_classes and ignore_index"):
        MetricSet(metrics_of("segmentation", LABELS), LABELS)
    METRICS["segmentation"].remove("plain")
    register_metric("chained")(Chained)
    with pytest.raises(ConfigError, match="metric chained: .* full_state_update = False"):
        MetricSet(metrics_of("segmentation", LABELS), LABELS)


def test_every_key_beside_metrics_is_taken(tiny_run, tiny_classifier_run, tmp_path: Path) -> None:
    for run in (tiny_run, tiny_classifier_run):
        result = evaluate(run.run_dir, output=tmp_path / run.run_dir.name)
        written = json.loads((result.output / "metrics.json").read_text())
        for name in written.keys() - result.measured.tree().keys() | {"step", "epoch", "loss", "learning_rate"}:
            with pytest.raises(ConfigError, match="another thing"):
                register_metric(name)


def test_a_validation_measures_what_evaluation_metrics_names(tiny_config, tmp_path: Path) -> None:
    """In metrics.csv, in the checkpoint, and for whoever monitors `val/mine`."""
    register_metric("missed", show=".0f", higher_is_better=False)(Missed)
    register_metric("half", per_class=True)(lambda counts: [0.5] * len(counts))
    register_metric("unasked")(kappa)
    best = ModelCheckpoint(tmp_path / "lowest", monitor="val/missed", mode="min", filename="lowest")
    config = tiny_config(f"run_dir={tmp_path / 'run'}", "evaluation.metrics=[missed, mean_dice, half]")
    result = train(config, callbacks=[best])
    rows = list(csv.DictReader((result.run_dir / "metrics.csv").open(newline="")))
    names = result.labels.names
    iou, half = [f"iou/{name}" for name in names], [f"half/{name}" for name in names]
    assert list(rows[0])[6:] == ["miou", "pixel_accuracy", "mean_dice", *iou, "missed", *half]
    validations = [row for row in rows if row["split"] == "val"]
    assert {row[name] for row in validations for name in half} == {"0.5"}
    assert {float(row["missed"]) for row in validations} >= {best.best_model_score.item()}
    assert best.best_model_score.item() == min(float(row["missed"]) for row in validations)
    described = read_trained(result.run_dir / "checkpoints" / "last.ckpt").description.metrics
    assert described["val/missed"] == float(validations[-1]["missed"])
    found = evaluate(result.run_dir / "checkpoints" / "last.ckpt", output=tmp_path / "out").measured
    assert found.one("missed") == float(validations[-1]["missed"])
    assert found.one("mean_dice") == pytest.approx(float(validations[-1]["mean_dice"]))


def test_names_of_no_metric_are_refused(tiny_config, multi_label_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^evaluation.metrics: unknown name 'mean_dise'. Did you mean mean_dice\?"):
        config_from_tree(
            {"data": {"name": "synthetic"}, "evaluation": {"metrics": ["mean_dise"]}, "trainer": {"max_steps": 1}},
            known_names=known_names(),
        )
    overlapping = LabelSpace.from_names("ab", multi_label=True)
    with pytest.raises(ConfigError, match=r"^evaluation.metrics: boundary/iou is not measured for these classes"):
        validation_metrics(tiny_config("evaluation.metrics=[boundary/iou]"), overlapping)
