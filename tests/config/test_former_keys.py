"""Keys of before: refused where a person writes them, read where segzoo wrote them."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch

from segzoo.checkpoint.read import load_segmenter
from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.load import load_config
from segzoo.config.schema import RunConfig
from segzoo.config.trees import FORMER_KEYS, with_current_keys
from segzoo.errors import ConfigError
from segzoo.training.resume import resumed_config

OLD = Path(__file__).parents[1] / "checkpoint" / "formats" / "version_1.ckpt.gz"


def has_key(model, key):
    first, _, rest = key.partition(".")
    field = getattr(model, "model_fields", {}).get(first)
    return field is not None and (not rest or has_key(field.annotation, rest))


@pytest.mark.parametrize("key", FORMER_KEYS)
def test_a_former_key_is_none_of_todays(key):
    assert not any(has_key(schema, key) for schema in (RunConfig, ClassificationRunConfig))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["trainer.lean=false"], "trainer.lean: renamed to trainer.recompute"),
        (["task=classification", "trainer.lean=true"], "trainer.lean: renamed to trainer.recompute"),
        (["stages=[{}, {trainer: {lean: true}}]"], "stages[1].trainer.lean: renamed to trainer.recompute"),
    ],
)
def test_it_is_refused_with_the_new_one_named(changes, line):
    with pytest.raises(ConfigError) as refusal:
        load_config({"data": {"name": "synthetic"}, "trainer": {"max_steps": 2}}, changes)
    assert line in refusal.value.problems


def test_what_is_translated_keeps_its_meaning_and_the_rest_stays():
    written = {
        "seed": 3,
        "trainer": {"lean": False, "max_steps": 2},
        "stages": [{"seed": 1}, {"trainer": {"lean": True}}],
    }
    assert with_current_keys(written) == {
        "seed": 3,
        "trainer": {"recompute": False, "max_steps": 2},
        "stages": [{"seed": 1}, {"trainer": {"recompute": True}}],
    }
    assert written["trainer"] == {"lean": False, "max_steps": 2}


@pytest.mark.parametrize("value", [True, False])
def test_a_checkpoint_of_before_says_what_it_said(value, tmp_path):
    path = tmp_path / "old.ckpt"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    content = torch.load(path, weights_only=True)
    trainer = content["segzoo"]["config"]["trainer"]
    trainer.pop("recompute", None)
    trainer["lean"] = value
    torch.save(content, path)
    assert load_segmenter(path).config.trainer.recompute is value


def test_a_run_of_before_goes_on(tiny_run, tmp_path):
    """Its config.yaml has the former key."""
    run = shutil.copytree(tiny_run.run_dir, tmp_path / "run")
    text = (run / "config.yaml").read_text()
    assert text.count("  recompute: true") == 1
    (run / "config.yaml").write_text(text.replace("  recompute: true", "  lean: false"))
    assert resumed_config(run, overrides=[f"run_dir={run}"]).trainer.recompute is False
    with pytest.raises(ConfigError, match="trainer.recompute"):
        resumed_config(run, overrides=["trainer.recompute=true"])
