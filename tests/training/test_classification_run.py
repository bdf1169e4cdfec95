"""`task: classification` from configuration to run directory: what segmentation's runs promise holds for it, too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from one_step import one_step
from PIL import Image
from run_files import rows, steps_of, weights

from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.checkpoint.read import load_classifier, load_segmenter, read_checkpoint
from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.load import load_config
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import CheckpointError, ConfigError, TrainingError
from segzoo.tasks.classification import ClassificationTask
from segzoo.tasks.names import known_names
from segzoo.training.resume import requested_config
from segzoo.training.run import prepare
from segzoo.training.train import TrainResult, train

Config = Callable[..., ClassificationRunConfig]

SCORES = ("top1", "top5", "map", "map_at_100")


class Stopped(Exception):
    pass


def test_run_directory_holds_what_was_promised(tiny_classifier_run: TrainResult, tiny_classifier_config: Config):
    folder = tiny_classifier_run.run_dir
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}
    expected = {"config.yaml", "environment.json", "images.json", "metrics.csv", "summary.json", "curves.png"}
    assert files == expected | {"checkpoints/last.ckpt", "checkpoints/best.ckpt"}
    written = load_config(folder / "config.yaml", known_names=known_names())
    assert written == tiny_classifier_config(f"run_dir={folder}")
    assert steps_of(folder) == [(1, "train"), (2, "train"), (3, "train"), (3, "val"), *steps_of(folder)[4:]]
    last = rows(folder)[-1]
    assert list(last)[6:] == list(SCORES)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["last_val_top1"] == tiny_classifier_run.scores["top1"] == float(last["top1"])
    assert {"best_val_top1", "best_step", "epoch", "steps", "seconds", "images_per_second"} <= summary.keys()
    assert summary["best_val_top1"] == max(float(row["top1"]) for row in rows(folder) if row["split"] == "val")


def test_scores_are_those_of_the_saved_network(tiny_classifier_run: TrainResult, class_folder: Path):
    """Read, cropped and normalised without our loaders."""
    trained = load_classifier(tiny_classifier_run.run_dir / "checkpoints" / "last.ckpt")
    assert trained.labels.names == ("blue", "green", "red")
    hits = []
    data = tiny_classifier_run.run_dir / "config.yaml"
    module = prepare(load_config(data, known_names=known_names()), None)[1]
    for batch in module.val_dataloader():
        logits = trained.classifier((batch["image"].float() / 255 - 0.5) / 0.5)
        hits += (logits.argmax(1) == batch["target"]).tolist()
    assert len(hits) == len(list((class_folder / "val").rglob("*.png"))) == 7
    assert sum(hits) / 7 == tiny_classifier_run.scores["top1"]


@pytest.mark.slow
def test_it_learns_colors(tiny_classifier_config: Config, tmp_path: Path):
    result = train(tiny_classifier_config(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=24"))
    assert result.scores["top1"] > 0.8  # chance is a third


def test_loaders_refuse_the_other_task(tiny_classifier_run: TrainResult, tiny_run: TrainResult):
    classifier, segmenter = (run.run_dir / "checkpoints" / "best.ckpt" for run in (tiny_classifier_run, tiny_run))
    with pytest.raises(CheckpointError, match=rf"^{classifier}: a classifier, .*model\.backbone\.weights="):
        load_segmenter(classifier)
    with pytest.raises(CheckpointError, match=rf"^{segmenter}: a segmenter, not a classifier\."):
        load_classifier(segmenter)


def test_stopped_and_resumed_equals_one_run(
    tiny_classifier_config: Config, tmp_path: Path, same_weights, monkeypatch: pytest.MonkeyPatch
):
    """With everything that a step has: averaged weights, blended images, dropout, parts of a batch."""
    changes = (
        "optimizer.ema_decay=0.3",
        "data.augmentation={mixup: 0.4, shear: 10, zoom: 0.2}",
        "loss.label_smoothing=0.1",
        "data.batch_size=2",
        "trainer.accumulate=2",
        "trainer.save_every_steps=1",
        "model.fc_width=8",
        "trainer.max_steps=4",
    )
    whole = train(tiny_classifier_config(f"run_dir={tmp_path / 'whole'}", *changes))
    folder = tmp_path / "run"
    original = ClassificationTask.training_step

    def stop(task, batch, index):
        if task.global_step == 2:
            raise Stopped
        return original(task, batch, index)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ClassificationTask, "training_step", stop)
        train(tiny_classifier_config(f"run_dir={folder}", *changes))
    train(requested_config(None, resume=folder), resume=folder)
    assert same_weights(whole.run_dir, folder)
    for first, second in zip(rows(whole.run_dir), rows(folder), strict=True):
        assert all(first[key] == second[key] for key in first if key != "images_per_second")


def test_average_of_every_step_in_closed_form(tiny_classifier_config: Config, tmp_path: Path):
    changes = (
        "optimizer.ema_decay=0.3",
        "trainer.keep_every_steps=1",
        "trainer.max_steps=4",
        "trainer.val_every_steps=9",
    )
    result = train(tiny_classifier_config(f"run_dir={tmp_path / 'run'}", *changes))
    start = prepare(tiny_classifier_config(), None)[2].state_dict()
    average = {key: value.double() for key, value in start.items() if key.startswith("classifier.")}
    assert len(average) > 100
    for step in range(1, 5):
        saved = read_checkpoint(result.run_dir / "checkpoints" / f"step_{step:06d}.ckpt")
        decay = min(0.3, (1 + step) / (10 + step))
        for key, value in average.items():
            own = saved[TRAINING_STATE][key]
            average[key] = decay * value + (1 - decay) * own if own.is_floating_point() else own
            torch.testing.assert_close(saved["state_dict"][key].double(), average[key].double(), rtol=1e-4, atol=1e-6)


def test_frozen_modules_keep_weights_and_statistics(tiny_classifier_config: Config, tmp_path: Path):
    changes = ("model.frozen_modules=5", "model.backbone.drop_path=0.5", "trainer.max_steps=2")
    config = tiny_classifier_config(f"run_dir={tmp_path / 'run'}", *changes)
    before = prepare(config, None)[2].state_dict()
    before = {key: value.clone() for key, value in before.items() if key.startswith("classifier.")}
    after = weights(train(config).run_dir)
    # Chollet's first five modules: the stem, three of the entry flow, one of the middle flow.
    first = ("stem.", "entry_flow.", "middle_flow.0.")
    frozen = {key for key in before if key.removeprefix("classifier.backbone.").startswith(first)}
    assert sum("running_mean" in key for key in frozen) > 10
    assert [key for key in frozen if not torch.equal(before[key], after[key])] == []
    learnt = [key for key in before.keys() - frozen if not torch.equal(before[key], after[key])]
    assert {"classifier.backbone.middle_flow.1.layers.0.norm.running_mean", "classifier.logits.weight"} <= set(learnt)
    assert before.keys() - frozen - set(learnt) <= {key for key in before if key.endswith((".bias", "_tracked"))}


def test_all_modules_frozen_train_the_scores_alone(tiny_classifier_config: Config):
    _, data, task = prepare(tiny_classifier_config("model.frozen_modules=all"), None)
    task.train()
    assert {name for name, parameter in task.named_parameters() if parameter.requires_grad} == {
        "classifier.logits.weight",
        "classifier.logits.bias",
    }
    assert not any(module.training for module in task.classifier.backbone.modules())
    before = [buffer.clone() for buffer in task.classifier.buffers()]
    one_step(task, next(iter(data.train_dataloader())))
    assert all(torch.equal(one, other) for one, other in zip(before, task.classifier.buffers(), strict=True))


def test_more_modules_than_there_are_is_refused(tiny_classifier_config: Config):
    with pytest.raises(ConfigError, match=r"^model\.frozen_modules: 15, but xception has 14 modules\."):
        prepare(tiny_classifier_config("model.frozen_modules=15"), None)


def test_gradient_of_parts_is_that_of_the_whole(tiny_classifier_config: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("segzoo.tasks.task.normalize", lambda *image: normalize(*image).double())
    changes = ("model.norm=group", "model.dropout=0", "loss.class_weights=[1, 2, 5]", "loss.label_smoothing=0.1")
    _, data, whole = prepare(tiny_classifier_config(*changes), None)
    _, _, parts = prepare(tiny_classifier_config("data.batch_size=1", "trainer.accumulate=4", *changes), None)
    parts.load_state_dict(whole.state_dict())
    batch = next(iter(data.train_dataloader()))
    gradients = [one_step(task.train().double(), batch)[1] for task in (whole, parts)]
    torch.testing.assert_close(whole.step_loss, parts.step_loss, check_dtype=False)
    assert len(gradients[0]) > 50
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-8)


def test_the_backbone_is_compiled(tiny_classifier_config: Config, monkeypatch: pytest.MonkeyPatch):
    parts = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: parts.append(part))
    task = prepare(tiny_classifier_config("trainer.compile=true"), None)[2]
    assert parts == [task.classifier.backbone]


def test_loss_that_is_not_finite_names_the_images(tiny_classifier_config: Config):
    _, data, task = prepare(tiny_classifier_config(), None)
    batch = next(iter(data.train_dataloader()))
    with torch.no_grad():
        task.classifier.logits.bias[0] = torch.nan
    with pytest.raises(TrainingError, match=rf"^step 0: the loss is nan, for the images .*{batch['id'][0]}"):
        one_step(task, batch, log_every_n_steps=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with several classes each: bright at the top, bright at the left."""
    root = tmp_path_factory.mktemp("table")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 12), ("val", 6)):
        lines = ["file,label"]
        for number in range(count):
            image = torch.randint(0, 90, (40, 40, 3), generator=generator).numpy().astype("uint8")
            top, left = number % 2, number // 2 % 2
            image[:12] += 120 * top
            image[:, :12] += 40 * left
            Image.fromarray(image).save(root / f"{split}{number}.png")
            lines.append(f"{split}{number}.png,{';'.join(['top'] * top + ['left'] * left)}")
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def test_several_classes_an_image(tiny_classifier_config: Config, table: Path, tmp_path: Path):
    changes = ("data.name=csv", "data.csv={multi_label: true}", f"data.root={table}", "optimizer.ema_decay=0.3")
    result = train(tiny_classifier_config(f"run_dir={tmp_path / 'run'}", *changes))
    assert result.main_metric == ("map", "mAP")
    assert result.labels.multi_label
    assert set(result.labels.names) == {"top", "left"}
    scored = [float(row["map"]) for row in rows(result.run_dir) if row["split"] == "val"]
    assert result.summary["best_val_map"] == max(scored)
    assert read_checkpoint(result.run_dir / "checkpoints" / "last.ckpt")["segzoo"]["metrics"]["val/map"] == scored[-1]
    assert result.scores["confusion_matrix"].shape == (2, 2, 2)


def test_stages_unfreeze(tiny_classifier_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    stages = "stages=[{model: {frozen_modules: all}}, {optimizer: {learning_rate: 1e-4}, loss: {label_smoothing: 0.1}}]"
    folder = tmp_path / "run"
    with caplog.at_level("INFO", "segzoo"):
        result = train(tiny_classifier_config(f"run_dir={folder}", "trainer.max_steps=2", stages))
    assert [stage["steps"] for stage in result.summary["stages"]] == [2, 2]
    assert f"{folder / 'stage1' / 'checkpoints' / 'best.ckpt'}: " in caplog.text
    first, second = weights(folder / "stage1", "best"), weights(folder / "stage2")
    start = prepare(tiny_classifier_config("model.frozen_modules=all"), None)[2].state_dict()
    stem = "classifier.backbone.stem.conv1.weight"
    assert torch.equal(first[stem], start[stem])
    assert not torch.equal(second[stem], start[stem])
    torch.testing.assert_close(second[stem], start[stem], rtol=0, atol=1e-3)  # it went on with the first one's


def test_early_stopping_says_what_got_no_better(tiny_classifier_config: Config, tmp_path: Path, caplog):
    changes = ("trainer.early_stopping=1", "trainer.val_every_steps=1", "trainer.max_steps=30")
    with caplog.at_level("INFO", "segzoo"):
        result = train(tiny_classifier_config(f"run_dir={tmp_path / 'run'}", *changes, "optimizer.learning_rate=1e-30"))
    assert result.summary["steps"] < 30
    assert "no better than top-1 0." in caplog.text


def test_tool_trains_checks_prints_and_resumes(
    tiny_classifier_run: TrainResult, call_tool, class_folder: Path, tmp_path: Path
):
    path = tmp_path / "run.yaml"
    shutil.copy(tiny_classifier_run.run_dir / "config.yaml", path)
    printed = call_tool("train.py", path, "--print-config", "model.dropout=0.25")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith("task: classification\n")
    assert "dropout: 0.25" in printed.stdout
    checked = call_tool("train.py", path, "--check")
    assert checked.stdout.startswith("ok: 12 training and 7 validation images, 3 classes; "), checked.stderr
    folder = tmp_path / "run"
    trained = call_tool("train.py", path, f"run_dir={folder}", "trainer.max_steps=2")
    assert trained.returncode == 0, trained.stderr
    assert "best val top-1: " in trained.stdout
    assert "mAP" in trained.stdout
    resumed = call_tool("train.py", "--resume", folder)
    assert (resumed.returncode, "is finished" in resumed.stderr) == (2, True)
    other = call_tool("train.py", "--resume", folder, "task=segmentation", "data.name=synthetic")
    assert other.returncode == 2
    assert other.stderr.startswith("error: task: the run has 'classification', you asked for 'segmentation'. ")
    assert len(other.stderr.splitlines()) == 1


def test_wrong_requests_in_one_go(call_tool, tiny_classifier_run: TrainResult):
    config = tiny_classifier_run.run_dir / "config.yaml"
    ended = call_tool("train.py", config, "data.name=image_foldr", "data.crop_size=3", "model.decoder=unet")
    assert ended.returncode == 2
    assert "data.name: unknown name 'image_foldr'. Did you mean image_folder?" in ended.stderr
    assert "data.crop_size: unknown key. " in ended.stderr
    assert "model.decoder: unknown key. " in ended.stderr
    for tool in ("model.py", "browse_data.py"):
        ended = call_tool(tool, config)
        assert (
            ended.returncode,
            "error: task: classification, and this is for segmentation only." in ended.stderr,
        ) == (
            2,
            True,
        )
