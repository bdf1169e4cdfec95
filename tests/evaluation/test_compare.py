import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from segzoo.checkpoint.saved import save_model
from segzoo.errors import ConfigError, DataError
from segzoo.evaluation.compare import PROTOCOL, as_markdown, compare, grids
from segzoo.evaluation.counts import SplitCounts
from segzoo.evaluation.evaluate import evaluate

IMAGES, CLASSES = 40, 3


def evaluation(folder: Path, skill: float, *, ids=None, shift=0, classes="abc") -> Path:
    """A folder as `evaluate` writes it: each image's share of right pixels is about `skill`."""
    generator = np.random.default_rng(1)
    truth = generator.integers(100, 900, (IMAGES, CLASSES)) + shift
    hits = np.minimum(truth, truth * np.clip(skill + generator.normal(0, 0.1, truth.shape), 0, 1)).astype(np.int64)
    matrices = np.zeros((IMAGES, CLASSES, CLASSES), np.int64)
    for label in range(CLASSES):
        matrices[:, label, label] = hits[:, label]
        matrices[:, label, (label + 1) % CLASSES] = truth[:, label] - hits[:, label]
    regions = np.stack([hits, truth, matrices.sum(1)], axis=1)
    names = tuple(ids or (f"image {index}" for index in range(IMAGES)))
    folder.mkdir(parents=True)
    SplitCounts(names, torch.from_numpy(matrices.sum(0)), regions).save(folder / "counts.npz")
    content = {"iou": dict.fromkeys(classes, 0.5), **dict.fromkeys(PROTOCOL, "as trained")}
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def mious(folder: Path) -> np.ndarray:
    regions = SplitCounts.load(folder / "counts.npz").regions
    return np.array([np.mean([h / (t + p - h) for h, t, p in image.T]) for image in regions])


def test_equals_scipy(tmp_path: Path) -> None:
    first, second = evaluation(tmp_path / "a", 0.6), evaluation(tmp_path / "b", 0.63)
    difference = compare([first, second], images=3).differences[0]
    gains = mious(second) - mious(first)
    assert difference.p_images == pytest.approx(stats.wilcoxon(gains).pvalue)
    assert difference.median == pytest.approx(np.median(gains))
    assert (difference.better, difference.worse) == ((gains > 0).sum(), (gains < 0).sum())
    assert [index for index, _ in difference.most] == np.argsort(-abs(gains))[:3].tolist()
    assert difference.low < difference.miou < difference.high


def test_paired_bootstrap_agrees_with_scipy(tmp_path: Path) -> None:
    """Of differences that are small beside what the images differ by; unpaired, the interval would be far wider."""
    folders = [evaluation(tmp_path / "a", 0.6), evaluation(tmp_path / "b", 0.61)]
    regions = [SplitCounts.load(folder / "counts.npz").regions for folder in folders]

    def miou(counts):
        hits, truth, predicted = counts.sum(0)
        return (hits / (truth + predicted - hits)).mean()

    expected = stats.bootstrap(
        (np.arange(IMAGES),),
        lambda chosen: miou(regions[1][chosen]) - miou(regions[0][chosen]),
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(3),
    )
    difference = compare(folders, images=0).differences[0]
    assert difference.miou == pytest.approx(miou(regions[1]) - miou(regions[0]))
    width = expected.standard_error
    assert difference.low == pytest.approx(expected.confidence_interval.low, abs=0.2 * width)
    assert difference.high == pytest.approx(expected.confidence_interval.high, abs=0.2 * width)


def test_an_evaluation_equals_itself(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", 0.6)
    difference = compare([first, first], images=5).differences[0]
    assert (difference.miou, difference.p_miou, difference.p_images, difference.most) == (0, 1, None, ())


def test_run_directories_and_splits(tmp_path: Path) -> None:
    for run in ("one", "two"):
        evaluation(tmp_path / run / "evaluation" / "val", 0.6)
    assert len(compare([tmp_path / "one", tmp_path / "two"], images=1).runs) == 2
    evaluation(tmp_path / "two" / "evaluation" / "train", 0.6)
    with pytest.raises(ConfigError, match="evaluations of train, val. Say which with --split"):
        compare([tmp_path / "one", tmp_path / "two"], images=1)
    assert compare([tmp_path / "one", tmp_path / "two"], split="val", images=1).differences[0].miou == 0


def test_a_saved_model_is_compared_by_what_evaluate_wrote_of_it(tiny_run, tmp_path: Path, monkeypatch) -> None:
    """As a user does it: export, evaluate, compare, all by the model's folder."""
    monkeypatch.chdir(tmp_path)
    save_model(tiny_run.run_dir, tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"saved: no evaluation here\. Make it: segzoo evaluate saved"):
        compare(["saved", "saved"], images=1)
    output = evaluate("saved", report=False).output
    assert output == Path("evaluations", "saved", "evaluation", "val")
    compared = compare(["saved", output], images=1)
    assert [run.name for run in compared.runs] == ["saved", str(output)]
    assert compared.differences[0].miou == 0
    with pytest.raises(ConfigError, match="no evaluation of split 'train' here"):
        compare(["saved", "saved"], split="train", images=1)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", 0.6)
    other_ids = [*(f"image {index}" for index in range(IMAGES - 1)), "stranger"]
    others = {
        "on other images: 40 and 40, and '.*' is not in both": evaluation(tmp_path / "b", 0.6, ids=other_ids),
        "against other masks, first of 'image 0'": evaluation(tmp_path / "c", 0.6, shift=1),
        "with other classes": evaluation(tmp_path / "d", 0.6, classes="abd"),
    }
    for message, other in others.items():
        with pytest.raises(ConfigError, match=message) as raised:
            compare([first, other], images=1)
        assert len(raised.value.problems) == 1
    with pytest.raises(ConfigError, match=r"no evaluation here\. Make it: segzoo evaluate"):
        compare([first, tmp_path], images=1)
    with pytest.raises(ConfigError, match="two evaluations or more"):
        compare([first], images=1)
    for damaged in ("{}", "[" * 100_000, "[]", "9" * 5000):
        (first / "metrics.json").write_text(damaged)
        with pytest.raises(DataError, match="metrics.json: not readable"):
            compare([first, first], images=1)


def test_tool_prints_and_writes_markdown(call_tool, tmp_path: Path) -> None:
    first, second = evaluation(tmp_path / "a", 0.6), evaluation(tmp_path / "b", 0.8)
    done = call_tool("compare.py", first, second, "--output", tmp_path / "table.md")
    assert done.returncode == 0, done.stderr
    assert "p, Wilcoxon" in done.stdout
    text = (tmp_path / "table.md").read_text()
    assert text == as_markdown(grids(compare([first, second], images=5)))
    assert "| images better / worse | 40 / 0 |" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1
    assert call_tool("compare.py", first, second, "--output", tmp_path / "new" / "table.md").returncode == 0
    assert (tmp_path / "new" / "table.md").read_text() == text
    refused = call_tool("compare.py", first, second, "--output", tmp_path / "table.md" / "table.md")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --output: ")
    assert refused.stdout == "", "said before the work"
    assert call_tool("compare.py", first, tmp_path / "none").returncode == 2


def test_metrics_that_nobody_registers_are_said(tmp_path: Path, caplog) -> None:
    first, second = (evaluation(tmp_path / name, 0.6) for name in "ab")
    assert compare([first, second], images=0)
    assert not caplog.messages
    content = json.loads((second / "metrics.json").read_text())
    (second / "metrics.json").write_text(json.dumps({**content, "kappa": 0.5, "images": 40, "boundary": {"iou": {}}}))
    assert compare([first, second], images=0)
    (said,) = caplog.messages
    assert said.startswith(
        f"{second}: kappa not shown, for nobody registers it. A part of your own is there after --pl"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b'{"iou": ' * 100_000, b"\xff\xfe", b"5", b'{"iou": ["a", "b", "c"]}', b'"iou"', None],
)
def test_metrics_that_are_none_are_one_line(content: bytes | None, tmp_path: Path) -> None:
    first, second = (evaluation(tmp_path / name, 0.6) for name in "ab")
    (second / "metrics.json").unlink()
    if content is None:
        (second / "metrics.json").symlink_to("/dev/null")
    else:
        (second / "metrics.json").write_bytes(content)
    with pytest.raises((DataError, ConfigError), match=r"metrics\.json: not readable|no evaluation here"):
        compare([first, second], images=0)
