"""`SegmentationTask` under a plain Trainer, as docs/lightning.md shows it; the page itself is typed by tests/docs."""

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
from segzoo.errors import CheckpointError, ConfigError, TrainingError
from segzoo.models.build import build_segmenter

LABELS = ["ground", "square"]
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
