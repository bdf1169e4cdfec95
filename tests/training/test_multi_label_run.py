"""A run on classes that are decided each on its own: trained, measured, saved, refused."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from segzoo.checkpoint.read import load_segmenter, read_checkpoint
from segzoo.config.schema import RunConfig
from segzoo.data import build_dataset
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.train import TrainResult, check, train

Settings = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def settings(tiny_config: Settings, multi_label_folder: Path) -> Settings:
    return lambda *overrides: tiny_config(
        "data.name=folder",
        f"data.root={multi_label_folder}",
        "data.folder.multi_label=true",
        "data.num_workers=0",
        "data.scale_range=[1, 1]",
        "loss.name=binary_cross_entropy",
        "model.decoder=unet",
        "optimizer.learning_rate=0.005",
        *overrides,
    )


@pytest.fixture(scope="module")
def run(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("runs") / "multi_label"
    steps = ("trainer.max_steps=40", "trainer.val_every_steps=20", "trainer.overlay_images=2")
    return train(settings(f"run_dir={folder}", "loss.class_weights=balanced", *steps))


def test_learns_more_than_a_constant_says(run: TrainResult, settings: Settings) -> None:
    dataset = build_dataset(settings().data, "val")
    shares = np.mean([dataset[index].mask.mean((1, 2)) for index in range(len(dataset))], 0)
    assert run.labels.names == ("disc", "square")
    for iou, always in zip(run.scores.iou, shares, strict=True):  # what "present everywhere" scores; "nowhere" has 0
        assert iou is not None
        assert iou > always + 0.25


def test_validation_equals_scikit_learn_on_the_saved_network(run: TrainResult, settings: Settings) -> None:
    loaded = load_segmenter(run.run_dir / "checkpoints" / "last.ckpt")
    dataset = build_dataset(settings().data, "val")
    truth, said = [], []
    for index in range(len(dataset)):
        image = torch.tensor(dataset[index].image).permute(2, 0, 1)[None]
        with torch.no_grad():
            scores = loaded.segmenter.eval()(normalize(image, loaded.config.data.preprocessing))
            said.append(run.labels.coding.predict_mask(scores))
        truth.append(dataset[index].mask.transpose(1, 2, 0).reshape(-1, 2))
    prediction = torch.cat(said).permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    expected = jaccard_score(np.concatenate(truth), prediction, average=None)
    assert run.scores.iou == pytest.approx(tuple(expected), abs=1e-3)


def test_what_the_run_leaves_behind(run: TrainResult) -> None:
    described = read_checkpoint(run.run_dir / "checkpoints" / "best.ckpt")["segzoo"]
    assert described["labels"]["multi_label"] is True
    rows = list(csv.DictReader((run.run_dir / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["iou/disc"]] == ["20", "40"]
    assert sorted(path.name for path in (run.run_dir / "overlays").iterdir()) == ["step_000020.png", "step_000040.png"]


def test_losses_that_need_one_class_a_pixel_are_refused_before_the_network_is_built(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segzoo.tasks.segmentation.build_segmenter", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(ConfigError, match="^loss: cross_entropy needs one class a pixel"):
        check(settings("loss.name=cross_entropy"))


def test_the_step_loss_is_torchs_on_the_decisions_that_count(settings: Settings) -> None:
    config = settings()
    task = SegmentationTask(config, build_dataset(config.data, "train").labels, 1).eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mask = torch.randint(0, 2, (1, 2, 32, 32), dtype=torch.uint8)
    mask[:, :, :16] = 255
    loss = task.loss_of({"image": image, "mask": mask, "id": ["a"]})
    logits = task.segmenter.training_logits(normalize(image, config.data.preprocessing))[0]
    kept = mask != 255
    expected = 2 * torch.nn.functional.binary_cross_entropy_with_logits(logits[kept], mask[kept].float())
    torch.testing.assert_close(loss, expected)
