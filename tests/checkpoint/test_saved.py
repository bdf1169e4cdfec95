"""A model as a folder: what is in it, that it comes back bit for bit, and what is refused."""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from segzoo.backbones import build_backbone
from segzoo.backbones.weights import recipe_of
from segzoo.checkpoint import saved as saving
from segzoo.checkpoint.card import started_from
from segzoo.checkpoint.read import find_checkpoint, load_classifier, load_segmenter, model_name, read_trained
from segzoo.checkpoint.saved import save_folder, save_model, shareable
from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.load import load_config
from segzoo.config.schema import RunConfig
from segzoo.errors import CheckpointError, ConfigError
from segzoo.training.train import TrainResult

Config = Callable[..., RunConfig]


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def problem_of(source: Path, kind: type[ConfigError | CheckpointError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        load_segmenter(source)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A saved model to spoil."""
    return shutil.copytree(saved, tmp_path / "copy")


def rewrite(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Other weights, with the sum that belongs to them."""
    file = folder / "model.safetensors"
    save_file(tensors, file, metadata=metadata or {"segzoo_model": "config.json"})
    describe(folder, weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def describe(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def test_a_folder_comes_back_bit_for_bit(saved: Path, tiny_run: TrainResult) -> None:
    run, loaded = load_segmenter(tiny_run.run_dir), load_segmenter(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert equal(run.segmenter.state_dict(), loaded.segmenter.state_dict())
    assert loaded.labels == run.labels
    assert loaded.description.metrics == run.description.metrics != {}
    assert loaded.description.versions == run.description.versions
    assert (loaded.description.step, loaded.preprocessing) == (run.description.step, run.preprocessing)
    assert not loaded.segmenter.training
    image = torch.rand(1, 3, 33, 47)
    assert torch.equal(run.segmenter(image), loaded.segmenter(image))


def test_a_classifiers_folder_comes_back_bit_for_bit(tiny_classifier_run: TrainResult, tmp_path: Path) -> None:
    """What a run's checkpoint says and computes, and the card by the hub's own reader."""
    run, folder = load_classifier(tiny_classifier_run.run_dir), save_model(tiny_classifier_run.run_dir, tmp_path / "c")
    loaded = load_classifier(folder)
    assert equal(load_file(folder / "model.safetensors"), run.classifier.state_dict())
    assert equal(run.classifier.state_dict(), loaded.classifier.state_dict())
    assert (loaded.labels, loaded.preprocessing) == (run.labels, run.preprocessing)
    assert loaded.description.metrics == run.description.metrics != {}
    assert loaded.config == shareable(run.config)
    image = torch.rand(2, 3, 40, 48)
    assert torch.equal(run.classifier(image), loaded.classifier(image))
    assert "a classifier, which says what an image shows" in problem_of(folder)
    text = (folder / "README.md").read_text()
    card = pytest.importorskip("huggingface_hub").ModelCard(text)
    assert (card.data.pipeline_tag, card.data.tags) == ("image-classification", ["image-classification", "xception"])
    for line in (
        'predictor = segzoo.ClassPredictor("c")',
        f"| top-1 | {100 * run.description.metrics['val/top1']:.2f}% |",
        "| top-5 | n/a |",
        "the central 0.875 of each side, scaled to 40×48",
        f"{sum(parameter.numel() for parameter in run.classifier.parameters()):,} parameters",
        "| 0 | blue |\n",
    ):
        assert line in text
    assert "colour" not in text


def test_a_network_may_start_from_a_saved_classifier(tiny_classifier_run: TrainResult, tmp_path: Path) -> None:
    folder = save_model(tiny_classifier_run.run_dir, tmp_path / "c")
    own = load_classifier(folder).classifier.backbone.state_dict()
    backbone = build_backbone("xception", width=0.1, weights=str(folder))
    assert equal(
        {key: value for key, value in own.items() if "num_batches" not in key},
        {key: value for key, value in backbone.state_dict().items() if "num_batches" not in key},
    )


def test_anyone_can_read_it(saved: Path, tiny_run: TrainResult) -> None:
    """With safetensors' own reader and JSON, by the file modes, and without a word of this machine."""
    run = load_segmenter(tiny_run.run_dir).segmenter.state_dict()
    assert equal(load_file(saved / "model.safetensors"), run)
    with safe_open(saved / "model.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"segzoo_model": "config.json"}
    content = json.loads((saved / "config.json").read_text())
    assert content["labels"]["names"][:2] == ["sky", "ground"]
    assert content["config"]["data"]["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert content["provenance"] == {
        "run": "tiny",
        "started_from": "random weights",
        "licence_of_that": "none, for nothing was taken over",
    }
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1
    assert all(str(tiny_run.run_dir.parent).encode() not in path.read_bytes() for path in saved.iterdir())


def test_the_card(saved: Path, tiny_run: TrainResult, tmp_path: Path) -> None:
    """Its head by the hub's own reader; its configuration is one that trains."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    text = (saved / "README.md").read_text()
    card = huggingface_hub.ModelCard(text)
    assert card.data.library_name == "segzoo"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.tags == ["semantic-segmentation", "xception", "deeplabv3plus_smp"]
    source = load_segmenter(tiny_run.run_dir)
    metrics = source.description.metrics
    parameters = sum(parameter.numel() for parameter in source.segmenter.parameters())
    for line in (
        'predictor = segzoo.Predictor("tiny")',
        f"| mIoU | {100 * metrics['val/miou']:.2f}% |",
        "| on synthetic, split val | value |",
        "at the images' own resolution",
        f"output stride 16; after {source.description.step} steps.",
        f"{parameters:,} parameters",
        "mean [0.5, 0.5, 0.5]",
        "| 1 | ground | ",
        "Training started from random weights.",
    ):
        assert line in text
    config = text.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "config.yaml").write_text(config)
    assert load_config(tmp_path / "config.yaml") == shareable(source.config)


@pytest.mark.parametrize(
    ("overrides", "origin", "licence"),
    [
        (["model.backbone.weights=tf_in1k"], "the backbone xception, published as tf_in1k at https://", "Apache-2.0"),
        (["model.backbone.weights=/home/me/x.h5"], "the backbone of x.h5", "not known to segzoo"),
        (["model.weights=C:\\runs\\a", "model.backbone.weights=imagenet"], "the whole network of a", "not known to"),
        (["model.weights=someone/model@v1"], "the whole network of someone/model@v1", "not known to segzoo"),
    ],
)
def test_where_it_comes_from(overrides: list[str], origin: str, licence: str, tiny_config: Config) -> None:
    started, of_that = started_from(shareable(tiny_config(*overrides)).model)
    assert started.startswith(origin)
    assert of_that.startswith(licence)


def test_paths_of_this_machine_stay_here(tiny_config: Config) -> None:
    config = tiny_config("data.cache=/scratch/me/cache", "run_dir=/home/me/run", "data.root=data/VOCdevkit")
    found = shareable(config)
    assert (found.data.cache, found.run_dir, found.data.root) == ("cache", None, "data/VOCdevkit")
    assert shareable(tiny_config("data.root=~/VOCdevkit")).data.root == "VOCdevkit"


def test_it_stands_wherever_a_checkpoint_is_asked_for(
    saved: Path, tiny_config: Config, tiny_run: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load_segmenter(saved).segmenter.state_dict()
    for source in (saved, saved / "model.safetensors"):
        assert find_checkpoint(source) == saved / "model.safetensors"
        assert model_name(find_checkpoint(source)) == "tiny"
        assert equal(load_segmenter(source).segmenter.state_dict(), own)
        network = read_trained(source)
        assert equal(network.tensors, own)
        assert network.labels == load_segmenter(saved).labels
        backbone = build_backbone("xception", width=0.1, weights=source).state_dict()
        assert torch.equal(backbone["stem.conv1.weight"], own["backbone.stem.conv1.weight"])
        assert recipe_of("xception", source).padding == "symmetric"
    monkeypatch.chdir(saved)
    assert model_name(find_checkpoint("model.safetensors")) == "tiny"
    assert model_name(find_checkpoint(tiny_run.run_dir)) == "tiny"


def test_a_run_that_starts_from_it_takes_its_preprocessing(copy: Path, tiny_config: Config) -> None:
    content = json.loads((copy / "config.json").read_text())["config"]
    content["data"]["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    describe(copy, config=content)
    for override in (f"model.weights={copy}", f"model.backbone.weights={copy}"):
        completed = with_starting_settings(tiny_config(override))
        assert completed.data.preprocessing.mean == (0.1, 0.2, 0.3)


def test_the_tools_take_it(saved: Path, tiny_run: TrainResult, tmp_path: Path, call_tool) -> None:
    scores = []
    for source in (tiny_run.run_dir, saved):
        ended = call_tool("evaluate.py", source, "--output", tmp_path / source.parent.name)
        assert ended.returncode == 0, ended.stderr
        scores.append(json.loads((tmp_path / source.parent.name / "metrics.json").read_text())["confusion_matrix"])
    assert scores[0] == scores[1]


def test_averaged_or_raw_weights(tiny_run: TrainResult, tiny_config: Config, tmp_path: Path) -> None:
    """The checkpoint of a run with `optimizer.ema_decay`, made of the tiny run's."""
    content = torch.load(find_checkpoint(tiny_run.run_dir), weights_only=True)
    averaged = {key: value * 2 if value.is_floating_point() else value for key, value in content["state_dict"].items()}
    raw = content["state_dict"]
    torch.save(content | {"state_dict": averaged, "training_state_dict": raw}, tmp_path / "averaged.ckpt")
    state = load_segmenter(tmp_path / "averaged.ckpt").segmenter.state_dict()
    assert equal({f"segmenter.{key}": value for key, value in state.items()}, averaged)
    loaded = load_segmenter(tmp_path / "averaged.ckpt", averaged=False)
    assert equal({f"segmenter.{key}": value for key, value in loaded.segmenter.state_dict().items()}, raw)
    assert loaded.description.metrics == {}
    save_model(loaded, tmp_path / "raw")
    assert "These weights were not measured." in (tmp_path / "raw" / "README.md").read_text()
    own = load_segmenter(tiny_run.run_dir, averaged=False)
    assert equal(own.segmenter.state_dict(), loaded.segmenter.state_dict())
    assert own.description.metrics != {}


def test_raw_weights_that_are_not_there(copy: Path) -> None:
    content = json.loads((copy / "config.json").read_text())
    content["config"]["optimizer"]["ema_decay"] = 0.9
    describe(copy, config=content["config"])
    assert "averaged weights, after" not in (copy / "README.md").read_text()
    again = save_model(copy, copy.with_name("again"))
    assert "averaged weights, after" in (again / "README.md").read_text()
    with pytest.raises(CheckpointError, match="has the averaged weights only"):
        load_segmenter(copy, averaged=False)


def test_weights_that_do_not_fit(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")  # memory of the file's own, where safetensors maps it
    good = {name: tensor.clone() for name, tensor in stored.items()}
    key = "backbone.stem.conv1.weight"
    cases = {
        "1 missing (backbone.stem.conv1.weight)": {name: value for name, value in good.items() if name != key},
        "1 left over (backbone.nosuch)": good | {"backbone.nosuch": torch.zeros(1)},
        "1 of another shape (backbone.stem.conv1.weight)": good | {key: torch.zeros(2, 2)},
        "1 not finite (backbone.stem.conv1.weight)": good | {key: torch.full_like(good[key], torch.nan)},
    }
    for expected, tensors in cases.items():
        rewrite(copy, tensors)
        assert expected in problem_of(copy)
    rewrite(copy, good)
    load_segmenter(copy)


def test_damaged_weights(copy: Path) -> None:
    """A byte of a tensor that another took the place of: safetensors itself would not notice."""
    file = copy / "model.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    load_file(file)
    assert "damaged, or not the weights that config.json beside it describes" in problem_of(copy)
    for content in (b"", good[:4], good[:100], good[:-1], good + b"x"):
        file.write_bytes(content)
        assert problem_of(copy).startswith(f"{file}: ")
    for content in (b"<html>not found</html>", b"PK\x03\x04" + good[4:], struct.pack("<Q", 2**40) + good[8:]):
        file.write_bytes(content)
        assert "no safetensors, whatever its name says" in problem_of(copy)


def test_pickles_in_the_weights_place(copy: Path, tiny_run: TrainResult) -> None:
    shutil.copy(find_checkpoint(tiny_run.run_dir), copy / "model.safetensors")
    assert "no safetensors, whatever its name says, or damaged at its start. Nothing was executed." in problem_of(copy)
    with pytest.raises(ConfigError, match=r"a folder without checkpoints/best.ckpt, last.ckpt or model.safetensors"):
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
        load_segmenter(copy)


def test_descriptions_that_do_not_do(copy: Path) -> None:
    file = copy / "config.json"
    good = json.loads(file.read_text())
    unknown = good["config"] | {"surprise": 1}
    other = good["config"] | {"model": good["config"]["model"] | {"decoder": "mine"}}
    names = good["labels"] | {"names": ["a", "a"]}
    colours = good["labels"] | {"palette": "red"}
    cases: list[tuple[str, dict]] = [
        ("format_version is 2; this segzoo reads up to 1. Update segzoo to read it.", {"format_version": 2}),
        ("format_version is 2; this", {"format_version": 2, "weights_sha256": None, "labels": None}),
        ("format_version is 0, which segzoo never wrote", {"format_version": 0}),
        ("format_version is True, which segzoo never wrote", {"format_version": True}),
        (
            "does not fit format 1 (config.surprise: Extra inputs are not permitted. A part of your own is",
            {"config": unknown},
        ),
        ("mine", {"config": other}),
        ("does not fit format 1 (classes: 3 names", {"labels": good["labels"] | {"names": ["a", "b", "c"]}}),
        ("does not fit format 1 (classes: named twice: a", {"labels": names | {"palette": [[0, 0, 0]] * 2}}),
        ("does not fit format 1 (label space: not readable", {"labels": colours}),
        ("does not fit format 1 (a metric is str, no number)", {"metrics": {"val/miou": "many"}}),
        ("does not fit format 1 (", {"metrics": [1]}),
        ("does not fit format 1 (", {"step": float("inf")}),
        ("damaged, or not the weights that config.json", {"weights_sha256": None}),
    ]
    for expected, changes in cases:
        file.write_text(json.dumps(good | changes))
        problem = problem_of(copy)
        assert problem.startswith(str(copy))
        assert expected in problem
    for text in (
        "",
        "[]",
        "{}",
        "null",
        '{"format_version"',
        "[" * 200_000,
        "9" * 5000,
        "\xff",
        " " * (16 * 2**20 + 1),
    ):
        file.write_text(text, encoding="latin-1")
        assert problem_of(copy).startswith(f"{file}: not ")
    file.unlink()
    assert problem_of(copy).startswith(f"{file}: missing. A saved model is a folder of config.json and")


def test_a_backbone_is_no_model(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    rewrite(copy, tensors, {"format": "pt"})
    assert "not a model that segzoo saved; a backbone goes to model.backbone.weights" in problem_of(copy)


def test_a_newer_format_gives_no_backbone_either(copy: Path, tiny_run: TrainResult, tmp_path: Path) -> None:
    describe(copy, format_version=2)
    content = torch.load(find_checkpoint(tiny_run.run_dir), weights_only=True)
    content["segzoo"]["format_version"] = 2
    torch.save(content, tmp_path / "newer.ckpt")
    for source in (copy, tmp_path / "newer.ckpt"):
        with pytest.raises(CheckpointError, match="format_version is 2; this segzoo reads up to 1"):
            build_backbone("xception", width=0.1, weights=source)


def test_links_are_followed_but_not_beyond_the_two_files(copy: Path, tmp_path: Path) -> None:
    """The hub's cache is made of links. No name inside the files is opened."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("config.json", "model.safetensors"):
        (linked / name).symlink_to(copy / name)
    load_segmenter(linked)
    (linked / "model.safetensors").unlink()
    (linked / "model.safetensors").symlink_to("/dev/zero")
    assert "a folder without" in problem_of(linked, ConfigError)
    (linked / "model.safetensors").unlink()
    (linked / "model.safetensors").symlink_to(copy / "model.safetensors")
    (linked / "config.json").unlink()
    os.mkfifo(linked / "config.json")
    assert "config.json: not a plain file" in problem_of(linked)
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../../etc/passwd"}}')
    load_segmenter(copy)


def test_written_whole_or_not_at_all(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_segmenter(saved)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(CheckpointError, match=r"new: not saved \(.*No space left on device\)"):
            save_folder(source, tmp_path / "new")
    for lossy in (
        lambda _, file, metadata: save_file({}, file, metadata),
        lambda _, file, **__: file.write_bytes(b"x"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(saving, "save_file", lossy)
            with pytest.raises(CheckpointError, match=r"/new: not saved \(it did not read back"):
                save_folder(source, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="not saved"):
        save_folder(source, tmp_path / "file" / "below")
    assert save_model(source, tmp_path / "a" / "new") == tmp_path / "a" / "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]


def test_nothing_is_written_over(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("file", "folder", "dangling"):
        with pytest.raises(ConfigError, match=f"{name}: exists already. Name another folder, or delete it"):
            save_model(saved, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_saved_again_it_is_the_same(saved: Path, tmp_path: Path) -> None:
    again = save_model(saved, tmp_path / "again" / "tiny")
    for path in saved.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_what_trained_it_is_kept_apart_from_what_saved_it(copy: Path, tmp_path: Path) -> None:
    describe(copy, versions={"torch": "1.0"})
    again = json.loads((save_model(copy, tmp_path / "again") / "config.json").read_text())
    assert again["versions"] == {"torch": "1.0"}
    assert again["saved_with"]["torch"] == str(torch.__version__)
