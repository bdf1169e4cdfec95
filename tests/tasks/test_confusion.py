"""mIoU against scikit-learn's confusion matrix and torchmetrics' macro Jaccard index."""

import math

import lightning
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score, multilabel_confusion_matrix
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassJaccardIndex

from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import ConfusionMatrix, MeanIoU, Scores

CLASSES = 7
OVERLAPPING = LabelSpace.from_names("abcd", multi_label=True)


def of_classes(count: int) -> LabelSpace:
    return LabelSpace.from_names([f"class_{index}" for index in range(count)])


def confusion_matrix(prediction: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor:
    return of_classes(classes).coding.count(prediction, target)


def random_case(seed: int, absent: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and target (6, 20, 30) with ignored pixels; `absent` classes appear in neither."""
    generator = np.random.default_rng(seed)
    present = [index for index in range(CLASSES) if index not in absent]
    prediction, target = (generator.choice(present, (6, 20, 30)) for _ in range(2))
    target = np.where(generator.random(target.shape) < 0.4, prediction, target)
    target = np.where(generator.random(target.shape) < 0.2, 255, target)
    return torch.from_numpy(prediction), torch.from_numpy(target)


@pytest.mark.parametrize("absent", [(), (2,), (0, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn_and_torchmetrics(seed: int, absent: tuple[int, ...]) -> None:
    prediction, target = random_case(seed, absent)
    matrix = confusion_matrix(prediction, target, CLASSES)
    kept = target != 255
    expected = sklearn_confusion_matrix(target[kept], prediction[kept], labels=range(CLASSES))
    np.testing.assert_array_equal(matrix.numpy(), expected)

    jaccard = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=255)
    scores = Scores.from_matrix(matrix)
    assert scores.miou == pytest.approx(float(jaccard(prediction, target)), abs=1e-6)
    assert [index for index, value in enumerate(scores.iou) if value is None] == list(absent)


@pytest.mark.parametrize("split", [[6], [1] * 6, [2, 4], [5, 1], [3, 2, 1]])
def test_any_split_into_batches_in_any_order_is_the_same(split: list[int]) -> None:
    prediction, target = random_case(1)
    order = torch.randperm(6)
    metric = ConfusionMatrix(of_classes(CLASSES))
    for part in torch.split(order, split):
        metric.update(prediction[part], target[part])
    assert torch.equal(metric.compute(), confusion_matrix(prediction, target, CLASSES))
    assert metric.compute().dtype == torch.int64


def test_absent_predicted_only_and_truth_only() -> None:
    target = torch.tensor([0, 0, 1, 1])
    prediction = torch.tensor([0, 2, 0, 0])
    scores = Scores.from_matrix(confusion_matrix(prediction, target, 4))
    assert scores.iou == (0.25, 0.0, 0.0, None)
    assert scores.miou == pytest.approx(0.25 / 3)
    assert scores.pixel_accuracy == 0.25


def test_everything_ignored_is_not_nan() -> None:
    scores = Scores.from_matrix(confusion_matrix(torch.zeros(9, dtype=torch.long), torch.full((9,), 255), 3))
    assert scores.miou is None
    assert scores.pixel_accuracy is None


def test_counts_beyond_float32() -> None:
    metric = ConfusionMatrix(of_classes(2))
    metric.counts += torch.tensor([[2**24, 0], [0, 0]])
    metric.update(torch.tensor([0]), torch.tensor([0]))
    assert int(metric.compute()[0, 0]) == 2**24 + 1


def test_values_outside_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"target holds values outside 0\.\.2"):
        confusion_matrix(torch.tensor([0]), torch.tensor([3]), 3)
    with pytest.raises(ValueError, match="prediction holds values"):
        confusion_matrix(torch.tensor([-1]), torch.tensor([0]), 3)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_matrix(torch.zeros(2), torch.zeros(3), 3)


def test_perfect_prediction() -> None:
    target = torch.tensor([0, 1, 2, 255])
    scores = Scores.from_matrix(confusion_matrix(torch.tensor([0, 1, 2, 0]), target, 3))
    assert scores.miou == 1.0
    assert math.isclose(scores.pixel_accuracy or 0, 1.0)


def multi_label_case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Decisions and truth (3, 4, 10, 12), a fifth of them ignored; class 2 is in neither."""
    generator = np.random.default_rng(seed)
    prediction, target = (generator.random((3, 4, 10, 12)) < 0.3 for _ in range(2))
    prediction[:, 2] = target[:, 2] = False
    ignored = np.where(generator.random(target.shape) < 0.2, 255, target.astype(np.uint8))
    return torch.from_numpy(prediction.astype(np.uint8)), torch.from_numpy(ignored.astype(np.uint8))


@pytest.mark.parametrize("seed", range(3))
def test_classes_of_their_own_equal_scikit_learn(seed: int) -> None:
    prediction, target = multi_label_case(seed)
    tables = OVERLAPPING.coding.count(prediction, target)
    scores = Scores.from_matrix(tables)
    iou, accuracy = [], []
    for index in range(4):
        kept = target[:, index] != 255
        truth, said = target[:, index][kept].numpy(), prediction[:, index][kept].numpy()
        np.testing.assert_array_equal(tables[index].numpy(), sklearn_confusion_matrix(truth, said, labels=[0, 1]))
        iou.append(jaccard_score(truth, said) if index != 2 else None)
        accuracy.append(accuracy_score(truth, said))
    assert scores.iou == pytest.approx(tuple(iou))
    assert scores.miou == pytest.approx(np.mean([value for value in iou if value is not None]))
    assert scores.pixel_accuracy == pytest.approx(np.mean(accuracy))


def test_without_ignored_pixels_all_classes_at_once_equal_scikit_learn() -> None:
    prediction, target = (values.where(values != 255, 0) for values in multi_label_case(3))
    rows = [values.movedim(1, -1).reshape(-1, 4).numpy() for values in (target, prediction)]
    tables = OVERLAPPING.coding.count(prediction, target)
    np.testing.assert_array_equal(tables.numpy(), multilabel_confusion_matrix(*rows))
    present = [0, 1, 3]
    expected = jaccard_score(rows[0][:, present], rows[1][:, present], average="macro")
    assert Scores.from_matrix(tables).miou == pytest.approx(expected)


def test_class_tables_of_any_batches_add_up() -> None:
    prediction, target = multi_label_case(4)
    metric = ConfusionMatrix(OVERLAPPING)
    for part in ([2], [0, 1]):
        metric.update(prediction[part], target[part])
    assert torch.equal(metric.compute(), OVERLAPPING.coding.count(prediction, target))
    assert metric.compute().dtype == torch.int64
    with pytest.raises(ValueError, match="outside 0..1"):
        metric.update(prediction + 1, target)


def random_masks(count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of five classes, the last of which is in neither; a part of the truth is ignored."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randint(0, 4, (2, count, 9, 11), generator=generator)
    return prediction, torch.where(torch.rand(target.shape, generator=generator) < 0.2, 255, target)


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 4], [2, 5]])
def test_mean_iou_is_that_of_torchmetrics_and_scikit_learn(sizes: list[int]) -> None:
    """For any batches and order; torchmetrics' own of segmentation averages over images instead."""
    prediction, target = random_masks()
    order = torch.randperm(7)
    metric = MeanIoU(5)
    theirs = MulticlassJaccardIndex(5, ignore_index=255)
    for part in order.split(sizes):
        metric.update(prediction[part], target[part])
        theirs.update(prediction[part], target[part])
    kept = target != 255
    expected = jaccard_score(target[kept], prediction[kept], average="macro")
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)
    assert metric.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-6)
    assert metric.compute().shape == ()


def test_scores_of_a_network_are_masks_too() -> None:
    prediction, target = random_masks()
    logits = torch.nn.functional.one_hot(prediction, 5).movedim(-1, 1).float()
    metric, other = MeanIoU(list("abcde")), MeanIoU(5)
    assert metric(logits, target) == other(prediction, target)
    decisions, truth = multi_label_case(0)
    overlapping, same = (MeanIoU(OVERLAPPING) for _ in range(2))
    assert overlapping(decisions.float() - 0.5, truth) == same(decisions, truth)


def test_nothing_to_judge_is_nan() -> None:
    metric = MeanIoU(3)
    metric.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 255))
    assert metric.compute().isnan()


def test_a_collection_counts_once_and_both_have_pictures() -> None:
    prediction, target = random_masks()
    collection = MetricCollection({"miou": MeanIoU(5), "matrix": ConfusionMatrix(5)})
    for part in (slice(0, 3), slice(3, 7)):
        collection.update(prediction[part], target[part])
    assert len(collection.compute_groups) == 1
    found = collection.compute()
    assert found["miou"].item() == pytest.approx(Scores.from_matrix(found["matrix"]).miou, rel=1e-6)
    _, axes = collection["miou"].plot()
    assert axes.get_ylim()[1] <= 1.1
    assert len(axes.lines) >= 1
    _, axes = collection["matrix"].plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == list(collection["matrix"].labels.names)


def test_logged_under_any_trainer_it_is_that_of_the_whole_split(tmp_path) -> None:
    """`self.log` of the metric itself: computed and reset at the end of the epoch, whatever the batches."""
    prediction, target = random_masks()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.miou = MeanIoU(5)

        def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
            self.miou(*batch)
            self.log("val/miou", self.miou)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(prediction, target), batch_size=3)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(default_root_dir=tmp_path, logger=False, accelerator="cpu", **quiet)
    (found,) = trainer.validate(Module(), loader, verbose=False)
    whole = MeanIoU(5)
    assert found["val/miou"] == whole(prediction, target).item()
