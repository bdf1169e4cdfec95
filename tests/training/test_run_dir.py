"""The folder that a run makes for itself."""

import csv
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from segzoo.backbones.weights.own import find_in_folder
from segzoo.checkpoint.metrics import read_table
from segzoo.config.schema import RunConfig
from segzoo.errors import CheckpointError, ConfigError, TrainingError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training import run
from segzoo.training import run_dir as module
from segzoo.training.resume import requested_config
from segzoo.training.run_dir import RunDir, finished_summary, new_run_dir, resumed_run_dir
from segzoo.training.train import TrainResult, train

NOON = datetime(2026, 1, 2, 12, 0, 0).astimezone()


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda: NOON))
    config = tiny_config().model_copy(update={"run_dir": None})
    made = []
    for _ in range(3):
        with new_run_dir(config, "name") as run_dir:
            made.append(str(run_dir.path))
            assert run_dir.config.is_file()
            assert run_dir.environment.is_file()
    assert made == [f"runs/name/2026-01-02_12-00-00{end}" for end in ("", "_2", "_3")]


@pytest.mark.parametrize("place", ["file", "file/below", None])
def test_a_folder_that_cannot_be_made_is_one_line(
    place: str | None, tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs").touch()  # where a run without run_dir goes
    monkeypatch.chdir(tmp_path)
    config = tiny_config().model_copy(update={"run_dir": place})
    with (
        pytest.raises(ConfigError, match=r"run_dir: cannot write to .*\. Name another folder\.$"),
        new_run_dir(config, "n"),
    ):
        pytest.fail("made")


@pytest.fixture
def foreign(tiny_run: TrainResult, tmp_path: Path) -> Path:
    """The tiny run, as if it came from somebody else."""
    return Path(shutil.copytree(tiny_run.run_dir, tmp_path / "foreign"))


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "file"])
def test_a_lock_that_is_none_is_left_alone(kind: str, foreign: Path, tmp_path: Path) -> None:
    lock, notes = foreign / ".lock", tmp_path / "notes.txt"
    lock.unlink()
    if kind == "file":
        lock.write_text("processing notes, many lines of them")
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(notes)
    if kind == "link":
        notes.write_text("my precious notes")
    with pytest.raises(ConfigError, match=r"^run_dir: .*\.lock.*ame another folder\.$"), resumed_run_dir(foreign):
        pytest.fail("opened")
    assert not notes.exists() or notes.read_text() == "my precious notes"
    assert notes.exists() == (kind == "link")
    assert kind != "file" or lock.read_text() == "processing notes, many lines of them"


@pytest.mark.parametrize(
    "file",
    [
        "metrics.csv",
        "summary.json",
        "environment.json",
        "curves.png",
        "checkpoints/best.ckpt",
        "checkpoints/notes.txt",
        "overlays/step_000002.png",
        "stage1/best.txt",
        "config.yaml",
    ],
)
def test_a_folder_of_somebody_elses_files_is_no_run_directory(
    file: str, tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    theirs = tmp_path / "project" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("weeks of work")
    before = sorted(tmp_path.rglob("*"))
    config = tiny_config(f"run_dir={tmp_path / 'project'}", "stages=[{}, {}]")
    with pytest.raises(ConfigError, match=r"^run_dir: .*(holds a run already|is no run, and has files)"):
        train(config)
    assert theirs.read_text() == "weeks of work"
    assert file == "config.yaml" or sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("file", ["metrics.csv", "checkpoints"])
def test_links_of_somebody_elses_are_in_the_way_too(
    file: str, tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / file).symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(ConfigError, match=f"is no run, .*: 1, such as {file}"),
        new_run_dir(tiny_config(f"run_dir={tmp_path / 'project'}"), "n"),
    ):
        pytest.fail("made")
    assert os.path.lexists(tmp_path / "project" / file)


def test_many_files_are_one_line(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "checkpoints" / f"{number:02d}.pth").parent.mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / f"{number:02d}.pth").touch()
    with pytest.raises(ConfigError) as refused, new_run_dir(tiny_config(f"run_dir={tmp_path}"), "n"):
        pytest.fail("made")
    (line,) = refused.value.problems
    assert "40, such as checkpoints/00.pth, checkpoints/01.pth, checkpoints/02.pth. Name" in line


def test_a_folder_with_other_things_may_become_a_run(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """A killed start leaves the lock and an empty folder; notes of one's own are no matter."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".lock").write_text("process 7 on a machine")
    (tmp_path / "checkpoints").mkdir()
    with new_run_dir(tiny_config(f"run_dir={tmp_path}"), "n") as made:
        assert made.config.is_file()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["checkpoints", "overlays", "tensorboard", "stage1"])
def test_a_run_whose_folders_lead_elsewhere_is_not_resumed(name: str, foreign: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "last.ckpt.part").write_text("weeks of work")
    shutil.rmtree(foreign / name, ignore_errors=True)
    (foreign / name).symlink_to(theirs)
    with pytest.raises(ConfigError, match=rf"--resume: .*{name} is a link"), resumed_run_dir(foreign):
        pytest.fail("opened")
    assert (theirs / "last.ckpt.part").read_text() == "weeks of work"


def resume(run_dir: Path) -> TrainResult:
    return train(requested_config(None, resume=run_dir), resume=run_dir)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"steps": "6"}', b"\xff\xfe\x00", b"[" * 100_000, b'{"steps": Infinity}'],
    ids=range(7),
)
def test_a_damaged_summary_says_nothing(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "summary.json").write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        assert finished_summary(RunDir(tmp_path)) is None
    assert "summary.json: damaged" in caplog.text


@pytest.mark.parametrize(
    "content", [b"\x00" * 400, b"[]", b"data: [", b"data: {name: x}\ndata: {}", None], ids=range(5)
)
def test_a_checkpoint_knows_the_configuration_too(
    content: bytes | None, foreign: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = requested_config(None, resume=foreign)
    if content is None:
        (foreign / "config.yaml").unlink()
    else:
        (foreign / "config.yaml").write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        assert requested_config(None, resume=foreign) == saved
    assert "going on with the configuration in" in caplog.text


def test_a_run_goes_on_without_summary_configuration_and_environment(
    foreign: Path, tiny_run: TrainResult, same_weights: Callable[[Path, Path], bool]
) -> None:
    """As after a power cut, which can leave files empty."""
    for name in ("summary.json", "config.yaml", "environment.json"):
        (foreign / name).write_text("")
    (foreign / "curves.png").unlink()
    resume(foreign)
    summary = json.loads((foreign / "summary.json").read_text())
    for key in ("last_val_miou", "best_val_miou", "best_step", "steps"):
        assert summary[key] == tiny_run.summary[key]
    assert (foreign / "curves.png").is_file()
    assert same_weights(foreign, tiny_run.run_dir)


@pytest.mark.parametrize("name", ["environment.json", "config.yaml"])
def test_a_pipe_in_somebody_elses_run_is_not_waited_for(name: str, foreign: Path) -> None:
    saved = requested_config(None, resume=foreign)
    (foreign / name).unlink()
    os.mkfifo(foreign / name)
    assert requested_config(None, resume=foreign) == saved


def test_without_a_checkpoint_a_damaged_configuration_is_said(foreign: Path) -> None:
    shutil.rmtree(foreign / "checkpoints")
    (foreign / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"config\.yaml: "):
        requested_config(None, resume=foreign)


DAMAGE = {
    "other bytes": b"\xff\xfe\x00\n",
    "a long row": b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19\n",
    "a short row": b"4,0.1\n",
    "words": b"4,1.0,train,words,0.1,2" + b"," * 12 + b"\n",
    "a quote": b'4,"1.0,train\n',
    "zeros, as after a power cut": bytes(4096) + b"\n",
    "no step": b"9" * 5000 + b",1.0,train,0.5\n",
    "a field without end": b"x" * 200_000 + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_rows_are_told_from_the_others(damage: bytes, tiny_run: TrainResult, tmp_path: Path) -> None:
    lines = (tiny_run.run_dir / "metrics.csv").read_bytes().splitlines(keepends=True)
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"".join([*lines[:3], damage, *lines[3:], b"6,1.0,tr"]))
    with (tiny_run.run_dir / "metrics.csv").open(newline="") as file:
        assert read_table(path) == (list(csv.DictReader(file)), 1)


def test_damaged_rows_are_left_out_and_kept_aside(foreign: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = foreign / "metrics.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:3], *DAMAGE.values(), *lines[3:]])
    path.write_bytes(damaged)
    (foreign / "summary.json").unlink()
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        resume(foreign)
    assert f"{len(DAMAGE)} damaged lines are left out" in caplog.text
    assert path.read_bytes() == b"".join(lines)
    assert (foreign / "metrics.damaged.csv").read_bytes() == damaged
    assert (foreign / "curves.png").is_file()


def test_a_column_of_another_version_is_kept(foreign: Path) -> None:
    path = foreign / "metrics.csv"
    with path.open(newline="") as file:
        before = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*before[0], "grace"])
        writer.writeheader()
        writer.writerows({**row, "grace": 0.5} for row in before)
    (foreign / "summary.json").unlink()
    resume(foreign)
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{**row, "grace": "0.5"} for row in before]


def test_a_run_killed_before_its_summary_has_its_curves(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=1"))
    assert (tmp_path / "run" / "curves.png").is_file()
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("changes", [(), ("trainer.log_every_steps=100", "trainer.save_every_steps=1")])
def test_a_run_directory_deleted_while_training_is_one_line(
    changes: tuple[str, ...], tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SegmentationTask.training_step

    def step(task: SegmentationTask, *arguments: object) -> object:
        if task.global_step == 1:
            shutil.rmtree(tmp_path / "run")
        return original(task, *arguments)

    monkeypatch.setattr(SegmentationTask, "training_step", step)
    with pytest.raises((TrainingError, CheckpointError), match=r"run/.*No such file or directory") as ended:
        train(tiny_config(f"run_dir={tmp_path / 'run'}", *changes))
    assert len(ended.value.problems) == 1
    assert not (tmp_path / "run").exists()


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """As a user who is not root: without the right to pass over them, which this thread gets back."""
    from ctypes import CDLL, c_uint32, get_errno

    libc = CDLL(None, use_errno=True)
    header, sets = (c_uint32 * 2)(0x20080522, 0), (c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(get_errno(), "capget")
    before = sets[0]
    sets[0] = before & ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset((c_uint32 * 2)(0x20080522, 0), sets)
    try:
        yield
    finally:
        sets[0] = before
        libc.capset((c_uint32 * 2)(0x20080522, 0), sets)


def test_a_folder_that_may_not_be_entered_is_one_line(foreign: Path) -> None:
    (foreign / "summary.json").unlink()
    (foreign / "checkpoints").chmod(0)
    try:
        with bound_by_permissions():
            with pytest.raises(ConfigError, match=r"cannot read .*checkpoints \(Permission denied\)"):
                resume(foreign)
            with pytest.raises(ConfigError, match=r"best\.ckpt: cannot be read \(Permission denied\)"):
                find_in_folder(foreign)
    finally:
        (foreign / "checkpoints").chmod(0o755)


@pytest.mark.parametrize("place", ["images", "masks/below"])
def test_a_run_among_the_images_is_refused(place: str, tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    for index in range(4):
        for name in ("images", "masks"):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.eye(64, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
    (tmp_path / "link").symlink_to("set")
    data = ("data.name=folder", f"data.root={tmp_path / 'set'}", "data.classes=[a,b]")
    config = tiny_config(*data, f"run_dir={tmp_path / 'link' / place}")
    with pytest.raises(ConfigError, match="run_dir: .* lies among the data set's files"):
        train(config)
    assert sorted(path.name for path in (tmp_path / "set/images").iterdir()) == [f"{index}.png" for index in range(4)]
    assert not (tmp_path / "set/masks/below").exists()
