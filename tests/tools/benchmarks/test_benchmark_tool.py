"""tools/benchmark.py in its quick form: which rows are there, not how fast they are."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from segzoo.inference.engines import ENGINES

Parsed = Callable[[str], list[dict[str, str]]]
FIGURES = ("ratio", "GMACs", "ratio per GMAC", "of matrix product")


@pytest.fixture
def measured(call_tool, parsed: Parsed, small_run: Path, tmp_path: Path):
    """Rows as printed, and everything as written, of a part in its quick form."""

    def measure(part: str, *options: object) -> tuple[list[dict[str, str]], dict]:
        output = tmp_path / "speed.json"
        result = call_tool("benchmark.py", "--quick", "--part", part, "--output", output, *options, small_run)
        assert result.returncode == 0, result.stderr
        found = json.loads(output.read_text())
        assert f"torch {torch.__version__}" in found["machine"]
        assert found["notes"] == [line[2:] for line in result.stdout.splitlines() if line.startswith("* ")]
        return parsed(result.stdout), found

    return measure


def ways(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(row["network"], row["way"], row["precision"]) for row in rows]


def test_inference_has_every_switch_of_the_baseline_and_every_engine(measured) -> None:
    rows, found = measured("inference", "--engines", "torch", "--no-memory", "--size", 33)
    baseline = "SMP, mobilenet_v2"
    ours, alike = "segzoo, deeplabv3plus on xception ×0.1", "segzoo, deeplabv3plus_smp on xception65 ×0.125"
    assert ways(rows) == [
        (baseline, "eager", "fp32"),
        (baseline, "channels_last", "fp32"),
        (baseline, "autocast", "bf16"),
        (baseline, "channels_last, autocast", "bf16"),
        (baseline, "channels_last, bfloat16", "bf16"),
        (baseline, "engine torch", "fp32"),
        (baseline, "engine torch", "bf16"),
        *[
            (name, way, precision)
            for name in (ours, alike)
            for way, precision in (("eager", "fp32"), ("engine torch", "fp32"), ("engine torch", "bf16"))
        ],
    ]
    assert float(rows[0]["ratio"]) == 1
    assert all(row[heading] for row in rows for heading in FIGURES)
    assert "peak MiB" not in rows[0]
    for row, written in zip(rows, found["rows"], strict=True):
        assert float(row["ratio"]) == pytest.approx(written["ratio"], abs=0.006)
        tolerance = 1e-4 if row["precision"] == "fp32" else 0.2
        assert written["difference"] is None or written["difference"] < tolerance, row
    assert found["limits"]["flops"].keys() == {"fp32", "bf16"}


@pytest.mark.slow
def test_inference_by_other_runtimes(measured) -> None:
    rows, _ = measured("inference", "--no-memory")
    found = {(row["way"], row["precision"]) for row in rows if row["network"].startswith("SMP")}
    runtimes = {("onnxruntime", "fp32"), ("openvino", "fp32")}
    assert {(f"exported, {name}", precision) for name, precision in runtimes} <= found
    assert {(f"engine {name}", precision) for name, precision in runtimes} <= found
    assert set(ENGINES) == {"torch", "onnxruntime", "openvino"}


@pytest.mark.slow
def test_a_training_step_is_measured_with_its_memory(measured) -> None:
    rows, found = measured("training", "--size", 32)
    baselines = [row for row in rows if row["network"].startswith("SMP")]
    assert [(row["way"], row["precision"]) for row in baselines] == [
        ("eager", "fp32"),
        ("channels_last", "fp32"),
        ("channels_last, fused", "fp32"),
        ("autocast", "bf16"),
        ("channels_last, autocast", "bf16"),
        ("channels_last, autocast, fused", "bf16"),
    ]
    ours = [(row["way"], row["precision"]) for row in rows[len(baselines) :]]
    assert ours == [("channels_last, recompute", "fp32"), ("channels_last, autocast, recompute", "bf16")] * 2
    assert all(row["peak_bytes"] > 0 for row in found["rows"])
    assert [row["memory_ratio"] for row in found["rows"] if row["way"] in ("eager", "autocast")] == [1, 1]


@pytest.mark.slow
def test_scaling_has_a_curve_for_each_thing_and_a_plot(measured, tmp_path: Path) -> None:
    plot = tmp_path / "scaling.png"
    rows, found = measured("scaling", "--plot", plot)
    assert [(row["work"], row["against"]) for row in rows] == [
        ("inference", "area"),
        ("inference", "batch"),
        ("inference", "processes"),
        ("training", "area"),
        ("training", "batch"),
    ]
    assert [point["value"] for point in found["rows"][0]["points"]] == [32**2, 64**2]
    assert all(point["peak_bytes"] > 0 for row in found["rows"] for point in row["points"])
    assert Image.open(plot).size[0] > 500


def test_the_loader_is_measured_on_the_data_set(measured) -> None:
    rows, _ = measured("loader")
    assert rows[0]["way"] == "plain"
    assert float(rows[0]["ratio"]) == 1
    assert len(rows) == 5


@pytest.mark.slow
def test_engines_go_from_files_to_masks(measured) -> None:
    rows, found = measured("engines", "--engines", "torch")
    assert len(rows) == len(found["rows"])
    assert [(row["way"], row["precision"]) for row in found["rows"]] == [
        ("plain loop", "fp32"),
        *[("torch (auto)", "fp32"), ("torch (auto)", "bf16")] * 2,
    ]
    assert found["rows"][0]["ratio"] == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--part", "loader", "configs/quickstart.yaml"], "not read from pairs of files"),
        (
            ["--part", "inference", "configs/quickstart.yaml", "--engines", "tensort"],
            "--engines: unknown engine 'tensort'",
        ),
        (
            ["--part", "training", "configs/quickstart.yaml", "--device", "cuda:99"],
            "--device: cuda:99: ",
        ),
        (["--part", "training", "configs/quickstart.yaml", "--device", "gpu"], "--device: gpu: "),
        (["--part", "loader", "configs/quickstart.yaml", "--rounds", "0"], "--rounds: 0; it must be at least 1"),
        (["--part", "scaling", "configs/quickstart.yaml", "--plot", "README.md/x.png"], "--plot: README.md: cannot be"),
        (
            ["--part", "engines", "configs/quickstart.yaml", "--size", "64"],
            "--size: --part engines does not read it. Leave it out.",
        ),
        (["--part", "training", "configs/quickstart.yaml", "--plot", "x.png"], "--plot: --part training does not"),
        (["--part", "inference", "configs/quickstart.yaml", "--images", "9"], "--images: --part inference does not"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(call_tool, words, problem) -> None:
    result: subprocess.CompletedProcess[str] = call_tool("benchmark.py", *words)
    assert result.returncode == 2
    assert problem in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
