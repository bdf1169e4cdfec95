"""One rule for every command: nothing that is there is replaced unasked, and nothing goes among the input's files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.errors import ConfigError
from segzoo.files import check_outputs
from segzoo.training.train import TrainResult

PRECIOUS = b"precious"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "mini"
    for split in ("train", "val"):
        for number in range(2):
            mask = np.zeros((48, 64), np.uint8)
            mask[:, 30:] = 1
            image = np.random.default_rng([number, len(split)]).integers(0, 255, (48, 64, 3)).astype(np.uint8)
            for name, pixels in (("images", image), ("masks", mask)):
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def words(data: Path) -> list[str]:
    changes = ["data.name=folder", f"data.root={data}", "data.classes=[a,b]", "data.crop_size=48", "data.batch_size=2"]
    return ["configs/quickstart.yaml", *changes, "model.backbone.width=0.1"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DRAWN = [("browse_data.py", ()), ("find_lr.py", ("--steps", "10")), ("benchmark.py", ("--part", "loader", "--quick"))]


@pytest.mark.parametrize(("tool", "more"), DRAWN)
def test_a_file_that_is_there_or_among_the_images(
    tool: str, more: tuple[str, ...], words: list[str], data: Path, tmp_path: Path, call_tool: Callable[..., object]
) -> None:
    before, there = contents(data), tmp_path / "there.png"
    there.write_bytes(PRECIOUS)
    for target in (data / "train" / "images" / "0.png", data / "val" / "masks" / "new.png"):
        for flags in ((), ("--overwrite",)):
            done = call_tool(tool, *words, *more, "--output", target, *flags)
            assert (done.returncode, "among the images" in done.stderr) == (2, True), done.stderr
    done = call_tool(tool, *words, *more, "--output", there)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{there}. Give --overwrite" in done.stderr
    assert (there.read_bytes(), contents(data)) == (PRECIOUS, before)


def test_asked_for_it_is_replaced(words: list[str], tmp_path: Path, call_tool: Callable[..., object]) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(PRECIOUS)
    assert call_tool("browse_data.py", *words, "--output", there, "--overwrite").returncode == 0
    assert there.read_bytes().startswith(b"\x89PNG")


def test_check_data_and_its_sheet(
    words: list[str], data: Path, tmp_path: Path, call_tool: Callable[..., object]
) -> None:
    assert call_tool("check_data.py", *words, "--output", data / "train" / "images").returncode == 2
    assert not (data / "train" / "images" / "samples.png").exists()
    (tmp_path / "samples.png").write_bytes(PRECIOUS)
    assert call_tool("check_data.py", *words, "--output", tmp_path).returncode == 2
    assert (tmp_path / "samples.png").read_bytes() == PRECIOUS
    assert call_tool("check_data.py", *words, "--output", tmp_path, "--overwrite").returncode == 0


@pytest.mark.parametrize("name", ["metrics.json", "per_image.csv", "counts.npz", "report.html", "plots/confusion.png"])
def test_evaluations(tiny_run: TrainResult, tmp_path: Path, call_tool: Callable[..., object], name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(PRECIOUS)
    done = call_tool("evaluate.py", tiny_run.run_dir, "--output", tmp_path)
    assert (done.returncode, f"there already is {tmp_path / name}" in done.stderr) == (2, True)
    assert contents(tmp_path) == {tmp_path / name: PRECIOUS}


def test_another_evaluation_and_its_comparison(
    tiny_run: TrainResult, tiny_classifier_run: TrainResult, tmp_path: Path, call_tool: Callable[..., object]
) -> None:
    for run in (tiny_run.run_dir, tiny_classifier_run.run_dir):
        folder = tmp_path / run.name
        assert call_tool("evaluate.py", run, "--no-report", "--output", folder).returncode == 0
        before = contents(folder)
        refused = call_tool("evaluate.py", run, "--no-report", "--output", folder)
        assert (refused.returncode, "files are there already, such as" in refused.stderr) == (2, True)
        assert contents(folder) == before
        assert call_tool("evaluate.py", run, "--no-report", "--output", folder, "--overwrite").returncode == 0
    table, measured = tmp_path / "table.md", tmp_path / tiny_run.run_dir.name
    table.write_bytes(PRECIOUS)
    assert call_tool("compare.py", measured, measured, "--output", table).returncode == 2
    assert table.read_bytes() == PRECIOUS
    assert call_tool("compare.py", measured, measured, "--output", table, "--overwrite").returncode == 0
    assert table.read_bytes() != PRECIOUS


def test_the_rule_itself(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "way").symlink_to(tmp_path / "folder")
    check_outputs([tmp_path / "new"], overwrite=False)
    check_outputs([tmp_path / "there"], overwrite=True)
    for name, overwrite in (("there", False), ("dangling", False), ("folder", True)):
        with pytest.raises(ConfigError, match=name):
            check_outputs([tmp_path / name], overwrite=overwrite)
    with pytest.raises(ConfigError, match="among the images or masks"):
        check_outputs([tmp_path / "way" / "new"], overwrite=True, inputs=[tmp_path / "folder"])
