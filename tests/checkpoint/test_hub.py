"""Models on the Hugging Face hub: fetched and shared through a hub that the test runs itself."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segzoo.backbones import build_backbone
from segzoo.backbones.weights.hub import is_hub_name
from segzoo.checkpoint.read import find_checkpoint, load_segmenter, model_name
from segzoo.checkpoint.saved import push_to_hub, save_model
from segzoo.errors import CheckpointError, ConfigError

NAME = "someone/tiny-model"


def state_of(source) -> dict[str, torch.Tensor]:
    return load_segmenter(source).segmenter.state_dict()


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def one_problem(kind: type[ConfigError | CheckpointError], source: str) -> str:
    with pytest.raises(kind) as caught:
        load_segmenter(source)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


def test_a_model_from_the_hub(hub, unplug, saved, tmp_path, caplog):
    """Two files and no others; a second time, and without a network, from the cache."""
    shutil.copytree(saved, tmp_path / "with_more")
    (tmp_path / "with_more" / "pytorch_model.bin").write_bytes(b"\x80")
    hub.put(NAME, tmp_path / "with_more")
    caplog.set_level(logging.INFO, logger="segzoo")
    assert equal(state_of(NAME), state_of(saved))
    assert load_segmenter(NAME).labels == load_segmenter(saved).labels
    assert f"{NAME}: nothing of this name is here, so it is looked for on the Hugging Face hub" in caplog.messages
    assert hub.fetched() == {"config.json", "model.safetensors"}
    assert model_name(find_checkpoint(NAME)) == "tiny-model"
    hub.requests.clear()
    load_segmenter(NAME)
    assert hub.fetched() == set()
    unplug()
    assert equal(state_of(NAME), state_of(saved))
    assert "so the cached files are taken" in caplog.text


def test_revisions(hub, unplug, saved, tiny_run, tmp_path):
    hub.put(NAME, saved)
    hub.put(NAME, save_model(tiny_run.run_dir / "checkpoints" / "last.ckpt", tmp_path / "other"))
    first, second = (hub.commit_name(NAME, number) for number in range(2))
    assert equal(state_of(f"{NAME}@{first}"), state_of(saved))
    assert equal(state_of(NAME), state_of(f"{NAME}@{second}"))
    assert find_checkpoint(NAME).parent.name == second
    weights = [path for method, path in hub.requests if path.endswith("model.safetensors")]
    assert {path.split("/")[-2] for path in weights} == {first, second}  # never main, which may move in between
    assert "no such model or revision" in one_problem(ConfigError, f"{NAME}@v9")
    unplug()
    assert find_checkpoint(NAME).parent.name == second


def test_the_cache_is_for_a_hub_out_of_reach_only(hub, saved):
    """What the hub says is gone is gone."""
    hub.put(NAME, saved)
    load_segmenter(NAME)
    hub.status = 500
    load_segmenter(NAME)
    hub.status = 200
    hub.commits.clear()
    assert "no such model or revision" in one_problem(ConfigError, NAME)


def test_weights_of_a_model_on_the_hub(hub, saved):
    hub.put(NAME, saved)
    backbone = build_backbone("xception", width=0.1, weights=NAME)
    own = state_of(saved)
    counted = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(value, own[f"backbone.{key}"]) for key, value in counted.items())


def test_what_cannot_be_had(hub, unplug, saved):
    assert one_problem(ConfigError, NAME).startswith(f"{NAME}: no such path here, and no such model or revision on")
    hub.put(NAME, saved)
    hub.status = 500
    assert "could not be asked for it" in one_problem(ConfigError, NAME)
    hub.status = 403
    assert "could not be asked for it" in one_problem(ConfigError, NAME)
    unplug()
    assert "fetch the folder elsewhere and name its path" in one_problem(ConfigError, NAME)


def test_a_hub_that_sends_a_byte_now_and_then_is_given_up(hub, saved, monkeypatch):
    hub.put(NAME, saved)
    hub.seconds_a_byte = 0.02
    monkeypatch.setattr("segzoo.backbones.weights.hub.WINDOW", 0.5)
    with pytest.raises(ConfigError, match=r"could not be asked for it \(only \d+ bytes in 0.5 s\)") as caught:
        find_checkpoint(NAME)
    assert len(caught.value.problems) == 1
    hub.seconds_a_byte = 0.0
    assert find_checkpoint(NAME).is_file()


def test_pickles_on_the_hub_are_left_there(hub, tiny_run, tmp_path):
    described, other = b'{"format_version": 1}', b'{"architectures": ["Bert"]}'
    hub.commits["a/a"] = [{"config.json": described, "pytorch_model.bin": b"\x80", "best.ckpt": b"\x80"}]
    assert "without model.safetensors" in one_problem(CheckpointError, "a/a")
    hub.commits["a/b"] = [{"pytorch_model.bin": b"\x80"}]
    assert "without config.json" in one_problem(CheckpointError, "a/b")
    hub.commits["a/c"] = [{"config.json": other, "model.safetensors": b"gigabytes"}]
    assert "not the description of a model that segzoo saved" in one_problem(CheckpointError, "a/c")
    assert hub.fetched() == {"config.json"}
    checkpoint = (tiny_run.run_dir / "checkpoints" / "best.ckpt").read_bytes()
    hub.commits["a/d"] = [{"config.json": described, "model.safetensors": checkpoint}]
    assert "no safetensors, whatever its name says" in one_problem(CheckpointError, "a/d")


def test_a_cached_file_that_rotted(hub, saved):
    hub.put(NAME, saved)
    file = find_checkpoint(NAME)
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "deleted from the cache; try again" in one_problem(ConfigError, NAME)
    assert equal(state_of(NAME), state_of(saved))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", True),
        ("owner/na.me-1_2@main", True),
        ("owner/name@refs/pr/1", True),
        ("name", False),
        ("a/b/c", False),
        ("./a/b", False),
        ("/a/b", False),
        ("../a", False),
        ("a/../b", False),
        ("owner/name@", False),
        ("owner/model.safetensors", False),
        ("weights/xception.H5", False),
        ("here/nothing", False),
        ("here/model", False),
    ],
)
def test_names_of_the_hub(text, expected, tmp_path, monkeypatch):
    """What is here, or should be, is no name of the hub: a slip of the pen must not go out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    assert is_hub_name(text) is expected


def test_the_tools_leave_with_2_and_ask_for_slips_nowhere(hub, call_tool):
    result = call_tool("evaluate.py", "tests/nosuch")
    assert (result.returncode, hub.requests) == (2, [])
    assert result.stderr.startswith("error: tests/nosuch: no such checkpoint.")
    result = call_tool("evaluate.py", NAME)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_shared_and_fetched_again(hub, saved, tiny_run):
    address = push_to_hub(tiny_run.run_dir, NAME, token="hf_secret")  # noqa: S106
    assert address == f"{hub.url}/{NAME}/commit/{hub.commit_name(NAME, 0)}"
    assert hub.created[0].get("visibility") == "private" or hub.created[0].get("private") is True
    assert "Bearer hf_secret" in hub.tokens
    (files,) = hub.commits[NAME]
    assert files.keys() == {"model.safetensors", "config.json", "README.md"}
    assert f'segzoo.Predictor("{NAME}")'.encode() in files["README.md"]
    assert not any(str(tiny_run.run_dir.parent).encode() in content for content in files.values())
    assert equal(state_of(NAME), state_of(saved))
    hub.commits[NAME][0]["notes.md"] = b"mine"
    push_to_hub(saved, NAME)
    assert hub.commits[NAME][1]["notes.md"] == b"mine"


def test_not_shared(hub, unplug, saved, tmp_path):
    with pytest.raises(ConfigError, match="Write owner/name"):
        push_to_hub(saved, "name")
    hub.status = 401
    with pytest.raises(ConfigError, match=f"{NAME}: the hub does not take it .*401.*hf auth login"):
        push_to_hub(saved, NAME)
    unplug()
    with pytest.raises(ConfigError, match="the hub does not take it"):
        push_to_hub(saved, NAME)
    with pytest.raises(ConfigError, match="no such checkpoint"):
        push_to_hub(tmp_path / "nothing", NAME)


FRESH = """
import hashlib, json, sys
import segzoo
for source in sys.argv[1:]:
    loaded = segzoo.load_segmenter(source)
    state = loaded.segmenter.state_dict()
    digest = hashlib.sha256(b"".join(state[key].numpy().tobytes() for key in sorted(state))).hexdigest()
    print(json.dumps([digest, sorted(state), loaded.labels.to_dict()]))
"""


def test_in_a_fresh_process(hub, saved, tiny_run, tmp_path):
    """Bitwise the same state and the same labels from the run, its folder, and the hub."""
    hub.put(NAME, saved)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", FRESH, str(tiny_run.run_dir), str(saved), NAME]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    run, folder, fetched = (json.loads(line) for line in result.stdout.splitlines())
    assert run == folder == fetched
    assert run[2] == json.loads(json.dumps(load_segmenter(tiny_run.run_dir).labels.to_dict()))
    assert Path(tmp_path / "home").is_dir()
