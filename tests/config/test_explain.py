"""Every key explained: by `--help`, and by the reference as a Markdown reader sees it."""

import re
from itertools import pairwise

from markdown_it import MarkdownIt

from segzoo.config.explain import config_reference, explain_text, schema_keys
from segzoo.config.load import SCHEMAS


def test_every_key_has_a_meaning():
    keys = [key for model in SCHEMAS.values() for key in schema_keys(model)]
    assert len(keys) > 80
    assert [key.path for key in keys if not key.meaning] == []


def test_text_shows_type_default_and_meaning():
    text = explain_text()
    assert "data.batch_size: integer = 16\n      Images in one batch, over all devices" in text
    assert "model.output_stride: 8 | 16 | 32 = 16" in text
    assert "data.name: text (required)" in text


def cells_of(text):
    """The rows of all tables, as (heading, [text of each cell])."""
    heading, rows = "", []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            heading = token.content
        if before.type == "tr_open":
            rows.append((heading, []))
        if before.type in ("td_open", "th_open"):
            rows[-1][1].append("".join(child.content for child in token.children))
            assert all(child.type in ("text", "code_inline", "text_special") for child in token.children), token.content
    return [(heading, cells) for heading, cells in rows if cells[0] != "key"]


def plain(text):
    return " ".join(text.replace("`", "").split())


def test_every_key_stands_there_with_its_default_and_meaning():
    found = {}
    for heading, (key, kind, default, meaning) in cells_of(config_reference()):
        assert heading.split(" (")[0] == (key.rpartition(".")[0] or "top level")
        assert kind
        found.setdefault(key, set()).add((default, meaning))
    expected = {}
    for model in SCHEMAS.values():
        for key in schema_keys(model):
            expected.setdefault(key.path, set()).add((key.field.is_required(), plain(key.meaning)))
    assert found.keys() == expected.keys()
    for key, entries in expected.items():
        assert {meaning for _, meaning in found[key]} == {meaning for _, meaning in entries}, key
        required = {required for required, _ in entries}
        assert {default == "required" for default, _ in found[key]} == required, key


def test_types_say_what_is_allowed():
    kinds = {key: kind for heading, (key, kind, *_) in cells_of(config_reference()) if "(" not in heading}
    assert kinds["data.batch_size"] == "integer ≥ 1, ≤ 65536"
    assert kinds["data.crop_size"] == "integer ≥ 1, ≤ 16384, or list of 2, each integer ≥ 1, ≤ 16384"
    assert kinds["model.output_stride"] == "8 or 16 or 32"
    assert kinds["model.eval_output_stride"] == "8 or 16 or 32, or null"
    assert kinds["optimizer.momentum"] == "number ≥ 0, < 1"
    assert kinds["optimizer.learning_rate"] == "number > 0, ≤ 10000000000.0"
    assert kinds["data.merge_classes"] == "mapping to list, each text, or null"
    assert kinds["stages"] == "list, each changes"


def test_defaults_are_as_one_writes_them():
    defaults = {key: default for _, (key, _, default, _) in cells_of(config_reference())}
    assert defaults["data.crop_size"] == "[513, 513]"
    assert defaults["optimizer.weight_decay"] == "4e-05"
    assert defaults["trainer.channels_last"] == "true"
    assert defaults["trainer.clip_norm"] == "null"
    assert defaults["trainer.loggers"] == "[]"
    assert defaults["data.folder.mask_suffix"] == '""'


def test_headings_are_unique_and_shared_sections_stand_once():
    headings = re.findall(r"^### (.*)$", config_reference(), flags=re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert [name for name in headings if name.startswith("optimizer")] == ["optimizer"]
    assert "data (classification)" in headings
