"""What `--resume` keeps, refuses and completes."""

import itertools
import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from ruamel.yaml import YAML
from run_files import weights

from segzoo.checkpoint.read import find_checkpoint
from segzoo.config.load import apply_overrides, load_config
from segzoo.config.schema import RunConfig
from segzoo.errors import CheckpointError, ConfigError, InterruptedTrainingError
from segzoo.training import callbacks, run
from segzoo.training.build import build_data
from segzoo.training.checkpoints import StopOnSignal
from segzoo.training.resume import check_images, requested_config
from segzoo.training.run_dir import RunDir, resumed_run_dir
from segzoo.training.train import TrainResult, train

Config = Callable[..., RunConfig]


@pytest.fixture
def copied(tiny_run: TrainResult, tmp_path: Path) -> Path:
    """The tiny run, to be changed."""
    return Path(shutil.copytree(tiny_run.run_dir, tmp_path / "copied"))


def test_the_runs_own_file_contradicts_nothing(tiny_yaml: Path, tmp_path: Path) -> None:
    """Neither what was computed from it, nor what only the command line said at first."""
    tree = YAML(typ="safe", pure=True).load(tiny_yaml)
    tree["loss"] = {"class_weights": "balanced"}
    file = tmp_path / "balanced.yaml"
    with file.open("w") as opened:
        YAML(typ="safe", pure=True).dump(tree, opened)
    run_dir = tmp_path / "run"
    first = train(requested_config(str(file), [f"run_dir={run_dir}", "seed=3"]))
    kept = requested_config(str(file), [], first.run_dir)
    assert kept.seed == 3
    assert len(kept.loss.class_weights) == first.labels.num_classes
    with pytest.raises(ConfigError, match="seed: the run has 3, you asked for 4"):
        requested_config(str(file), ["seed=4"], first.run_dir)


@pytest.fixture
def stopped(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on a folder of files, started with a relative path and stopped half-way."""
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        for part, shape in (("images", (48, 64, 3)), ("masks", (48, 64))):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 2, shape, dtype=np.uint8)
            Image.fromarray(pixels * (200 if part == "images" else 1)).save(tmp_path / "data" / part / f"{number}.png")
    folder = ("data.name=folder", "data.root=data", "data.synthetic=null", "data.num_workers=0")
    tree = apply_overrides(tiny_config().model_dump(mode="json", exclude_unset=True), folder)
    del tree["data"]["synthetic"]
    (tmp_path / "run.yaml").write_text(json.dumps(tree))
    train(requested_config("run.yaml", ["run_dir=run", "trainer.max_steps=4", "trainer.val_every_steps=2"]))
    (tmp_path / "run" / "summary.json").unlink()
    for name in ("last", "best"):
        (tmp_path / "run" / "checkpoints" / f"{name}.ckpt").unlink()
    return tmp_path / "run"


def resume(run_dir: Path, *overrides: str, config: str | None = None) -> TrainResult:
    return train(requested_config(config, overrides, run_dir), resume=run_dir)


def test_data_that_moved(stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="data.root=FOLDER"):
        resume(stopped)
    resume(stopped, "data.root=elsewhere", "data.num_workers=1", "trainer.log_every_steps=2")
    assert "data.root: the run had 'data', and goes on with 'elsewhere'" in caplog.messages
    known = load_config(stopped / "config.yaml")
    assert (known.data.root, known.data.num_workers) == ("elsewhere", 1), "the next time needs no word of it"
    assert find_checkpoint(stopped).is_file()


def test_another_working_folder(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means what it meant where the run began, unless somebody says another."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert requested_config(None, ["data.root=../data"], Path("../run")).data.root == "../data"
    (tmp_path / "run" / "environment.json").rename(tmp_path / "kept")  # as runs of before have it
    with pytest.raises(ConfigError, match="no folder 'data'"):
        resume(Path("../run"))
    (tmp_path / "kept").rename(tmp_path / "run" / "environment.json")
    assert resume(Path("../run")).summary["steps"] == 4


def test_weights_to_start_from_in_another_working_folder(
    tiny_run: TrainResult, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that was stopped before its first checkpoint, which needs them still; and once more after it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_run.run_dir / "checkpoints" / "best.ckpt", "start.ckpt")
    changes = ("trainer.max_steps=2", "trainer.val_every_steps=1", "optimizer.learning_rate=0.0001")
    whole = train(tiny_config("run_dir=run", "model.weights=start.ckpt", *changes))
    expected = weights(whole.run_dir.resolve())
    Path("run/summary.json").unlink()
    for path in Path("run/checkpoints").iterdir():
        path.unlink()
    Path("other").mkdir()
    monkeypatch.chdir("other")
    found = resume(Path("../run")).run_dir
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(found).items())
    Path("../run/summary.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert resume(Path("run")).summary["steps"] == 2, "its checkpoints know the configuration that it has now"


@pytest.mark.parametrize(
    "change", ["evaluation.tile=64", "trainer.save_every_steps=1", "data.cache=cache", "trainer.overlay_images=0"]
)
def test_what_changes_no_result_may_change(change: str, tiny_run: TrainResult) -> None:
    key, _, value = change.partition("=")
    section, _, name = key.partition(".")
    asked = requested_config(None, [change], tiny_run.run_dir)
    assert str(getattr(getattr(asked, section), name)) == value


@pytest.mark.parametrize(
    "change",
    ["data.crop_size=64", "data.train_split=val", "trainer.precision=bf16", "trainer.val_every_steps=2", "seed=1"],
)
def test_what_changes_results_is_refused(change: str, tiny_run: TrainResult) -> None:
    with pytest.raises(ConfigError, match=f"^{change.partition('=')[0]}: the run has .* start a new run for this"):
        requested_config(None, ["data.num_workers=1", change], tiny_run.run_dir)


def test_more_steps_begin_with_the_runs_weights(
    copied: Path, tiny_config: Config, tmp_path: Path, tiny_run: TrainResult
) -> None:
    advice = f"start a new run from its weights: model.weights={copied}"
    with pytest.raises(ConfigError, match="trainer.max_steps: the run has 6, you asked for 9.") as refused:
        requested_config(None, ["trainer.max_steps=9"], copied)
    assert advice in refused.value.problems[0]
    with pytest.raises(ConfigError, match="is finished") as refused:
        resume(copied)
    assert advice in refused.value.problems[0]
    longer = tiny_config(f"run_dir={tmp_path / 'longer'}", "trainer.max_steps=3", f"model.weights={copied}")
    assert train(longer).summary["steps"] == 3


def test_a_run_resumes_in_its_own_folder(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run_dir: the run lies in .*, you asked for .*other\. A resumed run stays"):
        requested_config(None, [f"run_dir={tmp_path / 'other'}"], copied)
    with pytest.raises(ConfigError, match="you asked for None"):
        requested_config(None, ["run_dir=null"], copied)
    assert requested_config(None, [f"run_dir={copied}"], copied)


def test_only_the_summary_was_missing(copied: Path, tiny_run: TrainResult) -> None:
    (copied / "summary.json").unlink()
    train(requested_config(None, resume=copied), resume=copied)
    summary = json.loads((copied / "summary.json").read_text())
    for key in ("last_val_miou", "best_val_miou", "best_step", "steps"):
        assert summary[key] == tiny_run.summary[key]


STRIPPED = {
    "only weights": lambda content: [content.pop(key) for key in ("optimizer_states", "loops", "callbacks")],
    "no optimizer's state": lambda content: content.update(optimizer_states=[]),
    "loops of another kind": lambda content: content.update(loops=[1]),
}
ODD = {
    "parameter groups": lambda content: content["optimizer_states"][0].update(param_groups=[]),
    "schedule": lambda content: content.update(lr_schedulers=[{"last_epoch": "x"}]),
    "loops": lambda content: content.update(loops={"fit_loop": 3}),
    "version": lambda content: content.update({"pytorch-lightning_version": "junk"}),
}


def _changed(run_dir: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """An unfinished run, whose last checkpoint alone is there, and changed."""
    (run_dir / "summary.json").unlink()
    (run_dir / "checkpoints/best.ckpt").unlink()
    path = run_dir / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize("change", STRIPPED.values(), ids=STRIPPED)
def test_a_checkpoint_without_its_progress_begins_nothing_anew(change: Any, copied: Path) -> None:
    path = _changed(copied, change)
    with pytest.raises(CheckpointError, match=f"^{path}: not to be gone on from: without .*, as training saves them"):
        train(requested_config(None, resume=copied), resume=copied)


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_progress_that_fits_nothing_is_one_line(change: Any, copied: Path) -> None:
    path = _changed(copied, change)
    with pytest.raises(CheckpointError, match=f"^{path}: training cannot go on from it") as caught:
        train(requested_config(None, resume=copied), resume=copied)
    assert len(caught.value.problems) == 1


def test_a_run_from_before_tasks_optimised_by_hand_goes_on(
    tiny_config: Config, tiny_run: TrainResult, tmp_path: Path
) -> None:
    """Its checkpoints have the count of steps elsewhere, and none where it is now."""
    run_dir = tmp_path / "run"
    train(tiny_config(f"run_dir={run_dir}", "trainer.keep_every_steps=4"))
    (run_dir / "checkpoints/last.ckpt").unlink()
    (run_dir / "checkpoints/step_000004.ckpt").rename(run_dir / "checkpoints/last.ckpt")

    def uncounted(content: dict[str, Any]) -> None:
        progress = next(value for key, value in content["loops"]["fit_loop"].items() if "optim_step_progress" in key)
        assert progress["total"]["completed"] == 4
        progress["total"].update(ready=0, completed=0)

    _changed(run_dir, uncounted)
    resume(run_dir)
    found, expected = weights(run_dir), weights(tiny_run.run_dir)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_finished_run_needs_no_data_to_say_so(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "prepare", None)
    with pytest.raises(ConfigError, match="is finished; nothing is left to do"):
        train(requested_config(None, resume=copied), resume=copied)


def test_leftovers_of_a_killed_write_are_cleared_away(copied: Path) -> None:
    left = [copied / "checkpoints" / "last.ckpt.part"]
    left += [folder / ".0123456789abcdef.01234567.tmp" for folder in (copied, copied / "overlays")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with resumed_run_dir(copied):
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_step_is_not_lost(signum: signal.Signals, tmp_path: Path) -> None:
    class Saved:
        run_dir = RunDir(tmp_path)

    stop = StopOnSignal(Saved())  # type: ignore[arg-type]
    stop.on_train_start(None, None)  # type: ignore[arg-type]
    before = signal.getsignal(signum)
    with pytest.raises(InterruptedTrainingError, match="--resume") as stopped, stop.listening():
        signal.raise_signal(signum)
    assert stopped.value.exit_status == 128 + signum
    assert signal.getsignal(signum) is before


def test_saving_is_no_training_time(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    saved = 0
    save = Trainer.save_checkpoint

    def slow(trainer: Trainer, *arguments: object) -> None:
        nonlocal saved
        saved += 1
        save(trainer, *arguments)

    clock = SimpleNamespace(perf_counter=lambda: next(ticks) + 1000 * saved)
    monkeypatch.setattr(Trainer, "save_checkpoint", slow)
    monkeypatch.setattr(callbacks, "time", clock)
    config = tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.save_every_steps=1", "trainer.max_steps=3")
    summary = train(config).summary
    assert saved == 5
    assert summary["steps"] * 4 / summary["images_per_second"] < 100


def draw_pair(root: Path, name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for kind, size, top in (("images", (48, 64, 3), 255), ("masks", (48, 64), 3)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, top, size, dtype=np.uint8)).save(root / kind / f"{name}.png")


@pytest.fixture(scope="module")
def pairs_run(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set without splits of its own, and a run on it that was stopped."""
    root = tmp_path_factory.mktemp("pairs") / "data"
    for number in range(24):
        draw_pair(root, f"i{number:02d}", number)
    run_dir = root.parent / "run"
    data = ("data.name=folder", f"data.root={root}", "data.classes=[a,b,c]", "data.num_workers=0")
    train(tiny_config(*data, f"run_dir={run_dir}", "trainer.max_steps=1"))
    (run_dir / "summary.json").unlink()
    return root, run_dir


def change_nothing(root: Path) -> None:
    shutil.copytree(root, root.with_name("copy"))  # other times of change
    shutil.rmtree(root)
    root.with_name("copy").rename(root)


def add(root: Path) -> None:
    for number in range(6):
        draw_pair(root, f"n{number}", 100 + number)


def remove(root: Path) -> None:
    for number in range(4):
        for kind in ("images", "masks"):
            (root / kind / f"i{number:02d}.png").unlink()


def exchange(root: Path) -> None:
    Image.new("RGB", (64, 48)).save(root / "images/i05.png")


def relabel(root: Path) -> None:
    Image.new("L", (64, 48)).save(root / "masks/i05.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_nothing, None),
        (add, r"other training images than when the run began: \d added \(.*n\d"),
        (remove, r"removed \(i0\d"),
        (exchange, r"1 exchanged \(i05\)"),
        (relabel, r"1 exchanged \(i05\)"),
    ],
)
def test_other_images_are_refused(
    change: Callable[[Path], None], said: str | None, pairs_run: tuple[Path, Path], tmp_path: Path
) -> None:
    root, run_dir = pairs_run
    kept = shutil.copytree(root, tmp_path / "kept")
    copy = shutil.copytree(run_dir, tmp_path / "run")
    try:
        change(root)
        if said is None:
            train(requested_config(None, resume=copy), resume=copy)
            return
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
        with pytest.raises(ConfigError, match=said) as refused:
            train(requested_config(None, resume=copy), resume=copy)
        assert all("model.weights=" in line for line in refused.value.problems)
        assert all(path.read_bytes() == content for path, content in before.items())
    finally:
        shutil.rmtree(root)
        kept.rename(root)


@pytest.mark.parametrize(
    "content", [None, b"", b"[" * 100_000, b"[]", b'{"training": {"i05": [1]}}', b'{"training": 1}']
)
def test_a_run_that_does_not_know_its_images_goes_on(
    content: bytes | None, pairs_run: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs of older versions do not, nor do those whose file was damaged; from then on they know."""
    _, run_dir = pairs_run
    copy = tmp_path / "run"
    copy.mkdir()
    if content is not None:
        (copy / "images.json").write_bytes(content)
    config = requested_config(None, resume=run_dir)
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        check_images(RunDir(copy), build_data(config))
    assert ("the images were not compared" in caplog.text) == (content is not None)
    assert json.loads((copy / "images.json").read_text()) == json.loads((run_dir / "images.json").read_text())


def test_a_classifiers_images_and_classes_are_compared(
    tiny_classifier_run: TrainResult, class_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_classifier_run.run_dir, tmp_path / "run")
    data = shutil.copytree(class_folder, tmp_path / "data")
    config = requested_config(None, resume=copy)
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": str(data)})})
    check_images(RunDir(copy), build_data(config))
    (data / "train/red/0.png").rename(data / "train/blue/9.png")
    with pytest.raises(ConfigError, match=r"1 added \(blue/9\.png\), 1 removed \(red/0\.png\)"):
        check_images(RunDir(copy), build_data(config))
