"""check_data, browse_data and make_config as a user types them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CallTool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """Eight training and two validation pairs of two classes."""
    for split, count in (("train", 8), ("val", 2)):
        for part in ("images", "masks"):
            (tmp_path / "set" / split / part).mkdir(parents=True)
        for index in range(count):
            random = np.random.default_rng((len(split), index))
            image = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "set" / split / "images" / f"{index}.png")
            mask = (image[..., 0] > 100).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / "set" / split / "masks" / f"{index}.png")
    return tmp_path / "set"


def check(call_tool: CallTool, root: Path, *more: object) -> "subprocess.CompletedProcess[str]":
    return call_tool("check_data.py", "configs/my_folder.yaml", f"data.root={root}", *more)


def test_sound_data_leaves_with_0_and_a_sheet(call_tool: CallTool, small_set: Path, tmp_path: Path) -> None:
    result = check(call_tool, small_set, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "error" not in result.stdout
    assert "class_1" in result.stdout
    assert "weight: what loss.class_weights=balanced takes, from the training masks" in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == f"no problem found; samples: {tmp_path / 'out' / 'samples.png'}"
    assert (tmp_path / "out/samples.png").stat().st_size > 0


def test_faults_leave_with_1_and_warnings_with_0(call_tool: CallTool, small_set: Path, tmp_path: Path) -> None:
    (small_set / "train/images/1.png").write_bytes((small_set / "train/images/0.png").read_bytes())
    result = check(call_tool, small_set, "--output", tmp_path / "out")
    assert result.returncode == 0
    assert result.stdout.startswith("warning: ")
    (small_set / "train/masks/2.png").unlink()
    result = check(call_tool, small_set, "--output", tmp_path / "out", "--overwrite")
    assert result.returncode == 1
    assert result.stdout.startswith("error: ")
    assert "1 error, 1 warning" in result.stdout
    assert "Traceback" not in result.stderr


def test_json_is_all_that_is_printed(call_tool: CallTool, small_set: Path, tmp_path: Path) -> None:
    (small_set / "val/masks/0.png").write_bytes(b"")
    result = check(call_tool, small_set, "--json")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert report["errors"] == 1
    assert report["findings"][0]["split"] == "val"
    assert report["splits"]["train"]["images"]["height"] == {"low": 64, "median": 64, "high": 64}
    assert len(report["class_weights"]) == len(report["classes"]) == 2


@pytest.mark.parametrize("words", [["data.root=nowhere"], ["data.nmae=voc"], ["data.name=fodler"]])
@pytest.mark.parametrize("tool", ["check_data.py", "browse_data.py"])
def test_wrong_requests_leave_with_2(call_tool: CallTool, tool: str, words: list[str], tmp_path: Path) -> None:
    result = call_tool(tool, "configs/my_folder.yaml", *words)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("tool", "output", "work"),
    [
        ("check_data.py", "file", "segzoo.data.inspection.check.check_data"),
        ("browse_data.py", "file/sheet.png", "segzoo.data.inspection.browse.StepBatchSampler"),
        ("make_config.py", "file/made.yaml", "segzoo.data.inspection.make_config.collect_facts"),
    ],
)
def test_a_folder_that_cannot_be_made_is_said_before_the_work(
    call_tool: CallTool,
    small_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
    output: str,
    work: str,
) -> None:
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked first"))
    (tmp_path / "file").touch()
    words = [small_set] if tool == "make_config.py" else ["configs/my_folder.yaml", f"data.root={small_set}"]
    result = call_tool(tool, *words, "--output", tmp_path / output)
    assert result.returncode == 2
    assert (
        result.stderr == f"error: --output: {tmp_path}/file: cannot be written to (File exists). Name another folder.\n"
    )


def test_browse_writes_the_sheet_it_names(call_tool: CallTool, small_set: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    result = call_tool(
        "browse_data.py", "configs/my_folder.yaml", f"data.root={small_set}", "--count", 2, "--output", sheet
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(sheet)]
    with Image.open(sheet) as image:
        assert image.width == 8 + 5 * 264
    assert call_tool("browse_data.py", "configs/my_folder.yaml", "--count", 0).returncode == 2


def test_a_made_config_trains_with_no_edit(call_tool: CallTool, small_set: Path, tmp_path: Path) -> None:
    config = tmp_path / "made.yaml"
    result = call_tool("make_config.py", small_set, "--output", config)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-3:] == [
        "next: look at what is read, and train:",
        f"  segzoo check-data {config}",
        f"  segzoo train {config}",
    ]
    checked = call_tool("train.py", config, "--check")
    assert checked.returncode == 0, checked.stderr
    assert "8 training and 2 validation images, 2 classes" in checked.stdout


def test_make_config_leaves_with_2_where_there_is_nothing(call_tool: CallTool, tmp_path: Path) -> None:
    result = call_tool("make_config.py", tmp_path, "--output", tmp_path / "made.yaml")
    assert result.returncode == 2
    assert "empty folder" in result.stderr
    assert call_tool("make_config.py", tmp_path / "nowhere").returncode == 2
