"""`SegmentationTask` under a plain Trainer, as docs/lightning.md shows it; the page itself is typed by tests/docs."""

import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_jaccard_index

import segzoo
from segzoo.checkpoint.read import load_segmenter
from segzoo.config.schema import ModelConfig
from segzoo.errors import CheckpointError, ConfigError, DataError, TrainingError
from segzoo.models.build import build_segmenter
from segzoo.tasks.classification import ClassificationTask

LABELS = ["ground", "square"]
ALONE = {"logger": False, "enable_checkpointing": False}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
MODEL = {"decoder": "unet", "unet": {"channels": [8, 8, 8, 8, 8]}, "backbone": {"name": "xception", "width": 0.125}}


def samples(count: int, *, named: bool = False, paired: bool = False, size: int = 32) -> list:
    """Squares in memory; a column of ignored pixels."""
    random, found = np.random.default_rng(0), []
    for number in range(count):
        mask = np.zeros((size, size), np.uint8)
        top, left = random.integers(0, 12, 2)
        mask[top : top + 18, left : left + 18] = 1
        image = torch.from_numpy(random.integers(0, 90, (3, size, size), np.uint8) + 120 * mask)
        mask[:, 0] = 255
        item = {"image": image, "mask": torch.from_numpy(mask)} | ({"id": f"square {number}"} if named else {})
        found.append((image, item["mask"]) if paired else item)
    return found


def loader(count: int = 8, *, batch_size: int = 4, **kind: bool) -> DataLoader:
    return DataLoader(samples(count, **kind), batch_size=batch_size)  # type: ignore[arg-type]


def task_of(network: object = MODEL, **settings: object) -> segzoo.SegmentationTask:
    settings = {"optimizer": {"name": "adamw", "learning_rate": 0.003}, **settings}
    return segzoo.SegmentationTask.from_network(network, LABELS, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, segzoo.SegmentationTask, ModelCheckpoint]:
    folder = tmp_path_factory.mktemp("fitted")
    best = ModelCheckpoint(folder / "kept", monitor="val/miou", mode="max", save_last=True)
    callbacks = [best, LearningRateMonitor(), EarlyStopping("val/miou", mode="max")]
    trainer = Trainer(max_epochs=2, callbacks=callbacks, logger=CSVLogger(folder), log_every_n_steps=1, **QUIET)
    task = task_of()
    trainer.fit(task, loader(16), loader())
    return trainer, task, best


def test_the_loggers_and_callbacks_hear_of_it(fitted) -> None:
    trainer, task, best = fitted
    text = (Path(trainer.logger.log_dir) / "metrics.csv").read_text()
    header = text.splitlines()[0].split(",")
    assert {"train/loss", "val/miou", "val/pixel_accuracy", "val/iou/ground", "lr-AdamW/weights"} <= {*header}
    assert trainer.global_step == 8
    assert float(best.best_model_score) >= task.scores.miou - 1e-6
    assert task.step_loss.isfinite()


def test_validate_and_test_give_torchmetrics_numbers(fitted) -> None:
    """Of all pixels of all batches together, the ignored ones aside."""
    trainer, task, _ = fitted
    (validated,), (tested,) = (run(task, loader(6), verbose=False) for run in (trainer.validate, trainer.test))
    masks = torch.cat(trainer.predict(task, loader(6)))
    assert (masks.shape, masks.dtype) == ((6, 32, 32), torch.uint8)
    truth = torch.stack([item["mask"] for item in samples(6)]).long()
    expected = multiclass_jaccard_index(masks.long()[truth != 255], truth[truth != 255], 2)
    assert validated["val/miou"] == pytest.approx(float(expected))
    assert {name.replace("test", "val"): value for name, value in tested.items()} == validated


def test_what_model_checkpoint_saves_is_read_by_all(fitted, tmp_path: Path) -> None:
    trainer, task, best = fitted
    path = best.last_model_path
    again = segzoo.SegmentationTask.load_from_checkpoint(path)
    assert trainer.validate(again, loader(), verbose=False) == trainer.validate(task, loader(), verbose=False)
    trained = load_segmenter(path)
    assert (trained.labels.names, trained.config.model.decoder) == (tuple(LABELS), "unet")
    image = samples(1)[0]["image"].movedim(0, -1).numpy()
    found = segzoo.Predictor(path)(image)
    np.testing.assert_array_equal(found.mask, trainer.predict(task, loader(1))[0][0].numpy())


def test_a_trainer_goes_on_from_its_checkpoint(fitted, tmp_path: Path) -> None:
    _, _, best = fitted
    longer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, **QUIET)
    longer.fit(task_of(), loader(16), loader(), ckpt_path=best.last_model_path)
    assert longer.global_step == 12


@pytest.mark.parametrize("kind", [{}, {"named": True}, {"paired": True}])
def test_every_collated_batch_will_do(kind: dict) -> None:
    trainer = Trainer(fast_dev_run=True, **QUIET)
    trainer.fit(task_of(), loader(**kind), loader(**kind))
    assert {"train/loss", "val/miou"} <= trainer.callback_metrics.keys()


@pytest.mark.parametrize("kind", [{}, {"named": True}, {"paired": True}])
def test_lists_of_unequal_images_are_validated_and_predicted(kind: dict) -> None:
    """As each of them alone; masks come in their order."""
    given = [*samples(1, size=48, **kind), *samples(2, **kind), *samples(1, size=48, **kind)]
    alone, together = DataLoader(given), DataLoader(given, batch_size=4, collate_fn=list)  # type: ignore[arg-type]
    trainer, task = Trainer(**QUIET, **ALONE), task_of()
    assert trainer.validate(task, together, verbose=False) == trainer.validate(task, alone, verbose=False)
    (found,), expected = trainer.predict(task, together), trainer.predict(task, alone)
    assert [mask.shape for mask in found] == [(48, 48), (32, 32), (32, 32), (48, 48)]
    assert all(torch.equal(mask, other[0]) for mask, other in zip(found, expected, strict=True))


def test_images_without_masks_are_predicted() -> None:
    images = [item["image"] for item in samples(4)]
    trainer, task = Trainer(**QUIET, **ALONE), task_of()
    (expected,) = trainer.predict(task, loader(4))
    for given in (images, [(image,) for image in images], [{"image": image} for image in images]):
        for collate in (None, list):
            (found,) = trainer.predict(task, DataLoader(given, batch_size=4, collate_fn=collate))  # type: ignore[arg-type]
            assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([*samples(1), *samples(1, size=48)], r"images of several sizes \(32×32, 48×48\).* batch_size=1"),
        ([{"image": samples(1)[0]["image"]}], r"masks of a batch: none, where images \(1, 3, 32, 32\) need"),
        ([(samples(1)[0]["image"], torch.zeros(1, 32, 32))], r"of shape \(1, 1, 32, 32\), .* need \(1, 32, 32\)"),
    ],
)
def test_batches_that_no_step_can_take(given: list, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        Trainer(max_epochs=1, **QUIET, **ALONE).fit(task_of(), DataLoader(given, batch_size=2, collate_fn=list))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"gradient_clip_val": 0.5}, r"Trainer\(gradient_clip_val=0.5\): .*clip_norm=0.5 of from_network"),
        ({"accumulate_grad_batches": 2}, r"Trainer\(accumulate_grad_batches=2\): .*accumulate=2 of from_network"),
    ],
)
def test_what_the_trainer_cannot_do_is_said_with_what_does(options: dict, line: str) -> None:
    trainer, task = Trainer(max_epochs=1, **options, **QUIET, **ALONE), task_of()
    with pytest.raises(ConfigError, match=line):
        trainer.fit(task, loader())
    assert trainer.validate(task, loader(), verbose=False)


def test_a_smaller_last_batch_of_several_parts_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"3 images do not make 2 equal parts.*drop_last=True"):
        Trainer(max_epochs=1, **QUIET, **ALONE).fit(task_of(accumulate=2), loader(7))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions_of_the_trainer(precision: str) -> None:
    trainer, task = Trainer(max_epochs=1, precision=precision, **QUIET, **ALONE), task_of()
    trainer.fit(task, loader(), loader())
    assert task.step_loss.isfinite()
    assert task.network.state_dict().keys() == task_of().network.state_dict().keys()
    assert torch.cat(trainer.predict(task, loader())).dtype == torch.uint8


def unpickled(task: segzoo.SegmentationTask) -> segzoo.SegmentationTask:
    return pickle.loads(pickle.dumps(task))  # noqa: S301  # its own


def test_a_task_is_copied_and_pickled_before_and_after_a_fit(fitted) -> None:
    _, trained, _ = fitted
    images = torch.stack([item["image"] for item in samples(2)])
    for task in (task_of(), trained):
        for copy in (deepcopy(task), unpickled(task)):
            assert torch.equal(copy.eval()(images), task.eval()(images))
            assert copy.main_score == task.main_score
    Trainer(fast_dev_run=True, **QUIET).fit(unpickled(task_of()), loader(), loader())


def test_images_from_0_to_1_are_those_in_bytes() -> None:
    task, given = task_of().eval(), samples(2)
    images = torch.stack([item["image"] for item in given])
    torch.testing.assert_close(task(images / 255), task(images), rtol=1e-4, atol=1e-5)


def test_overfitting_a_few_batches() -> None:
    trainer = Trainer(max_epochs=2, overfit_batches=1, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(task_of(), loader(16), loader(16))
    assert trainer.global_step == 2


def one_by_one(channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, len(LABELS), 1))


def test_a_network_a_loss_and_an_optimizer_of_ones_own(tmp_path: Path) -> None:
    """A checkpoint of it says that no configuration describes the network."""
    network, used = one_by_one(), []

    class Loss(nn.CrossEntropyLoss):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            used.append(tuple(target.shape))
            return super().forward(logits, target)

    def optimizer(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr=0.5)

    task = task_of(network, loss=Loss(ignore_index=255), optimizer=optimizer)
    before = network[0].weight.detach().clone()
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(task, loader(), loader())
    assert used == [(4, 32, 32)] * 2
    assert not torch.equal(before, network[0].weight)
    path = tmp_path / "own.ckpt"
    trainer.save_checkpoint(path)
    for read in (load_segmenter, segzoo.SegmentationTask.load_from_checkpoint):
        with pytest.raises(CheckpointError, match=r"a module of your own \(torch.nn.*Sequential\), .* network=\.\.\."):
            read(path)
    again = segzoo.SegmentationTask.load_from_checkpoint(path, network=one_by_one())
    assert torch.equal(again.network[0].weight, network[0].weight)


def test_gray_images_and_parts_of_a_batch() -> None:
    """Two parts of two images come to the step of four at once."""
    losses = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        task = task_of(
            one_by_one(1), preprocessing={"mean": [0.5], "std": [0.25]}, accumulate=accumulate, clip_norm=0.1
        )
        batch = [{**item, "image": item["image"][:1]} for item in samples(4)]
        Trainer(max_steps=3, logger=False, enable_checkpointing=False, limit_val_batches=0, **QUIET).fit(
            task,
            DataLoader(batch, batch_size=4),  # type: ignore[arg-type]
        )
        losses.append(float(task.step_loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_segmenter_that_segzoo_built_is_described(tmp_path: Path) -> None:
    network = build_segmenter(ModelConfig.model_validate(MODEL), len(LABELS))
    trainer = Trainer(fast_dev_run=True, **QUIET)
    task = task_of(network, steps=10)
    trainer.fit(task, loader(), loader())
    trainer.save_checkpoint(tmp_path / "built.ckpt")
    state = load_segmenter(tmp_path / "built.ckpt").segmenter.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_averaged_weights_are_what_a_checkpoint_means(tmp_path: Path) -> None:
    task = task_of(optimizer={"name": "sgd", "learning_rate": 0.1, "ema_decay": 0.5})
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(task, loader(), loader())
    trainer.save_checkpoint(tmp_path / "averaged.ckpt")
    again = segzoo.SegmentationTask.load_from_checkpoint(tmp_path / "averaged.ckpt")
    for name, tensor in again.network.state_dict().items():
        assert torch.equal(tensor, task.average.tensors[name])
    assert any(not torch.equal(a, b) for a, b in zip(again.parameters(), task.parameters(), strict=False))
    trainer.fit(task_of(optimizer=task.config.optimizer.model_dump(exclude_unset=True)), loader(), loader())


def averaging() -> segzoo.SegmentationTask:
    return task_of(optimizer={"name": "sgd", "learning_rate": 0.3, "ema_decay": 0.5})


def test_an_earlier_checkpoint_of_averages_is_measured_as_it_was(tmp_path: Path) -> None:
    """By the task whose fit went on since; the newest average is not what that checkpoint means."""
    kept = ModelCheckpoint(tmp_path, monitor="val/miou", mode="max", save_top_k=-1)
    task = averaging()
    trainer = Trainer(max_epochs=3, callbacks=[kept], logger=False, **QUIET)
    trainer.fit(task, loader(), loader())
    scores = {path: float(score) for path, score in kept.best_k_models.items()}
    assert len(set(scores.values())) > 1
    for path, score in scores.items():
        (validated,) = trainer.validate(task, loader(), path, verbose=False)
        assert validated["val/miou"] == pytest.approx(score, abs=1e-7)
        again = segzoo.SegmentationTask.load_from_checkpoint(path)
        masks = [torch.cat(trainer.predict(own, loader(), ckpt_path=path)) for own in (task, again)]
        assert torch.equal(*masks)


def test_the_average_is_what_predicts() -> None:
    trainer, task, metric = Trainer(max_epochs=2, **QUIET, **ALONE), averaging(), segzoo.MeanIoU(LABELS)
    trainer.fit(task, loader(), loader())
    metric.update(torch.cat(trainer.predict(task, loader())), torch.stack([item["mask"] for item in samples(8)]))
    assert float(metric.compute()) == pytest.approx(task.scores.miou)


def test_a_validation_that_was_broken_off_counts_for_nothing() -> None:
    trainer, task = Trainer(**QUIET, **ALONE), task_of()
    expected = trainer.validate(task, loader(), verbose=False)
    wrong = [*samples(4), {**samples(1)[0], "mask": torch.full((32, 32), 9, dtype=torch.uint8)}]
    with pytest.raises(DataError, match="outside"):
        trainer.validate(task, DataLoader(wrong, batch_size=4), verbose=False)  # type: ignore[arg-type]
    assert trainer.validate(task, loader(), verbose=False) == expected


def test_a_loss_that_is_no_number_ends_it_before_a_checkpoint(tmp_path: Path) -> None:
    class Wrong(nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return logits.sum() * float("nan")

    best = ModelCheckpoint(tmp_path)
    trainer = Trainer(max_epochs=1, callbacks=[best], logger=False, **QUIET)
    with pytest.raises(TrainingError, match="step 0: the loss is nan, for the images square 0, square 1, square 2, "):
        trainer.fit(task_of(loss=Wrong()), loader(named=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"network": {"decoder": "unett"}}, "model.decoder: .*unet"),
        (
            {"optimizer": {"learning_rat": 1}},
            "optimizer.learning_rat: unknown key. Did you mean optimizer.learning_rate",
        ),
        ({"loss": "cross_entrop"}, "loss.name: .*cross_entropy"),
        ({"network": {**MODEL, "weights": "runs/a"}}, "model.weights: .*load_from_checkpoint"),
        ({"preprocessing": {"mean": [0.5], "std": [0.5, 0.5]}}, "mean has 1 channels and std 2"),
    ],
)
def test_wrong_parts_are_refused_as_in_a_configuration(settings: dict, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        task_of(**settings)


def test_it_is_one_lightning_module_with_a_run(tiny_config, tmp_path: Path) -> None:
    """Its own data module under a plain Trainer sees each sample once a pass, in another order in the next."""
    config = tiny_config()
    data = segzoo.SegmentationDataModule(config.data)
    seen: list[list[str]] = []

    class Noted(segzoo.SegmentationTask):
        def training_step(self, batch: dict, batch_index: int) -> Tensor:
            seen.append(batch["id"])
            return super().training_step(batch, batch_index)

    task = Noted(config, data.labels)
    assert isinstance(task, LightningModule)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, num_sanity_val_steps=0, **QUIET)
    trainer.fit(task, data)
    passes = [[name for step in steps for name in step] for steps in (seen[:3], seen[3:])]
    assert len(seen) == trainer.global_step == 6
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(data.train_dataset.ids)
    assert passes[0] != passes[1]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stopped_after", [2, 3, 4])  # amid a pass of three steps, between passes, amid the second
def test_its_data_module_goes_on_under_a_plain_trainer(
    stopped_after: int, workers: int, tiny_config, tmp_path: Path
) -> None:
    config = tiny_config(f"data.num_workers={workers}")
    seen: list[tuple[int, list[str]]] = []

    class Noted(segzoo.SegmentationTask):
        def training_step(self, batch: dict, batch_index: int) -> Tensor:
            seen.append((self.global_step, batch["id"]))
            return super().training_step(batch, batch_index)

    def fit(start: Path | None = None) -> None:
        data = segzoo.SegmentationDataModule(config.data)
        kept = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        quiet = {**QUIET, "logger": False, "callbacks": [kept], "num_sanity_val_steps": 0}
        Trainer(max_epochs=3, limit_val_batches=0, **quiet).fit(Noted(config, data.labels, 9), data, ckpt_path=start)

    fit()
    whole, seen[:] = list(seen), []
    fit(tmp_path / f"step={stopped_after}.ckpt")
    assert seen == whole[stopped_after:]


def test_a_classifier_under_a_plain_trainer(tiny_classifier_run) -> None:
    """Any collated batch will do there, too."""
    trained = segzoo.load_classifier(tiny_classifier_run.run_dir)
    task, trainer = ClassificationTask(trained.config, trained.labels), Trainer(max_epochs=1, **QUIET, **ALONE)
    pairs = [(item["image"], number % 2) for number, item in enumerate(samples(8))]
    named = [{"image": image, "target": target} for image, target in pairs]
    trainer.fit(task, DataLoader(pairs, batch_size=4), DataLoader(named, batch_size=4))  # type: ignore[arg-type]
    assert trainer.callback_metrics["val/top1"] == pytest.approx(task.main_score)
    (paired,), (tested,) = (
        trainer.test(task, DataLoader(data, batch_size=4), verbose=False) for data in (pairs, named)
    )  # type: ignore[arg-type]
    assert paired == tested
    scores = [trainer.predict(task, DataLoader(data, batch_size=8))[0] for data in (pairs, named)]  # type: ignore[arg-type]
    assert torch.equal(*scores)
    right = scores[0].argmax(1) == torch.tensor([target for _, target in pairs])
    assert tested["test/top1"] == pytest.approx(float(right.float().mean()))


def test_the_data_modules_images_are_predicted(tiny_config) -> None:
    """Lightning makes a loader of its own of the one that it is given for predictions."""
    config = tiny_config()
    data = segzoo.SegmentationDataModule(config.data, eval_batch_size=2)
    trainer, task = Trainer(**QUIET, **ALONE), segzoo.SegmentationTask(config, data.labels)
    masks = torch.cat(trainer.predict(task, data.val_dataloader()))
    metric = segzoo.MeanIoU(data.labels)
    metric.update(masks, torch.stack([torch.from_numpy(np.array(sample.mask)) for sample in data.val_dataset]))
    (expected,) = trainer.validate(task, datamodule=data, verbose=False)
    assert float(metric.compute()) == pytest.approx(expected["val/miou"])
