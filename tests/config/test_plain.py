"""Texts that nobody writes by accident, and slips that look like them: one line each, in little time and memory."""

import json
import resource
from pathlib import Path

import pytest

from segzoo.config.load import apply_overrides, config_from_tree, load_config
from segzoo.config.plain import MAX_DEPTH, MAX_VALUES, parse_yaml, plain_copy
from segzoo.errors import ConfigError

MINIMAL = {"data": {"name": "voc"}, "trainer": {"max_steps": 3}}


def bomb(first, item, level):
    """Ten lines of nine aliases to the line before each: 9^9 values where they are written out."""
    lines = [f"a0: &a0 {first}", *(level(i, ", ".join(item(i, j) for j in range(9))) for i in range(1, 10))]
    return "\n".join(lines) + "\n"


HOSTILE = {
    "of sections": bomb("{x: 1}", lambda i, j: f"k{j}: *a{i - 1}", lambda i, items: f"a{i}: &a{i} {{{items}}}"),
    "of lists": bomb("[x]", lambda i, j: f"*a{i - 1}", lambda i, items: f"a{i}: &a{i} [{items}]"),
    "of merges": bomb("{x: 1}", lambda i, j: f"*a{i - 1}", lambda i, items: f"a{i}: &a{i} {{<<: [{items}]}}"),
    "endless": "data: &d {name: folder, folder: *d}\n",
    "endless list": "data: &d [*d]\n",
    "endless merge": "data: &d {<<: *d}\n",
    "deep": "\n".join(" " * depth + "a:" for depth in range(3000)),
    "deep lists": "- " * 3000,
    "deep keys": "? " * 3000,
    "brackets": "a: " + "[" * 1500 + "]" * 1500,
    "braces": "{a: " * 3000,
    "half": "data: {name: [",
    "digits": "seed: " + "9" * 5000,
    "tag of a number": "seed: !!int x",
    "tag of a date": "seed: !!timestamp x",
    "tag of bytes": "seed: !!binary x",
    "tag of a set": "seed: !!set {a, b}",
    "own tag": "seed: !x 3",
    "control sign": "run_dir: a\0b",
    "nothing to alias": "seed: *seed",
    "version": "%YAML 9.9\n---\nseed: 3",
    "directive": "%TAG ! !\n%TAG ! !\n--- a",
    "two documents": "a: 1\n---\na: 2\n",
    "unclosed": "a: 'b",
    "large": "a: b\n" * 2**18,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_line(text, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: ")
    assert len(line) < len(str(path)) + 250
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20  # kilobytes; a bomb takes hundreds of GB


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=" + "9" * 5000, f"seed={'9' * 75}...: line 1: no whole number: {'9' * 63}"),
        ("seed=0b" + "1" * 20_000, "seed: a whole number of more than 64 bits."),
        ("seed=0x" + "f" * 5000, "seed: a whole number of more than 64 bits."),
        ("evaluation.batch_size=" + "1" * 31, "evaluation.batch_size: a whole number of more than 64 bits."),
        ("data.classes=" + "[" * 1500 + "]" * 1500, "nested deeper than 50 levels"),
        (".".join("a" * 3000) + "=1", "nested deeper than 50 levels."),
        ("seed=!!int x", "seed=!!int x: line 1: tag !!int. Only plain YAML 1.2 values are read."),
        (r'run_dir="a\0b"', r"run_dir: holds signs that are no text: 'a\x00b'."),
        (r'run_dir="\ud800"', r"run_dir: holds signs that are no text: '\ud800'."),
        (r'data.classes=[a, "\ud800"]', r"data.classes: holds signs that are no text: '\ud800'."),
        (r'data.merge_classes={"\0": [a]}', r"data.merge_classes.\x00: holds signs that are no text: '\x00'."),
        ("run_dir=caf\udce9", "cannot be read as YAML (unacceptable character #xdce9"),
        ("data.merge_classes={1: [a]}", "data.merge_classes.1: a name has to be text; put it into quotes."),
        ("data.merge_classes={[a]: [a]}", "a name has to be text; put it into quotes."),
        ("data.merge_classes=&a [*a]", "alias a stands for nothing before it"),
        ("data.merge_classes=[? [a]]", "a name has to be text"),
        ("seed=%YAML 1.1", "seed=%YAML 1.1: line 1: "),
        ("x" * 10_000, f"{'x' * 80}...: not understood. Write key.sub=value, such as data.batch_size=4."),
        ("data.name=" + "x" * 5000, "data.name: unknown name 'xxx"),
        ("stages=[" + "{}, " * 101 + "]", "stages: takes at most 100 values, not [{}, {}, "),
    ],
)
def test_a_hostile_override_is_one_line(override, line):
    with pytest.raises(ConfigError) as caught:
        config_from_tree(apply_overrides(MINIMAL, [override]), known_names={"data.name": ["voc"]})
    (problem,) = caught.value.problems
    assert line.rstrip(".") in problem
    assert len(problem) < 400


@pytest.mark.parametrize("text", ["2001-99-99", "2001-01-01", "2001-01-01T00:00:00Z", "12:30:45", "yes", "0x", "1e5x"])
def test_what_looks_like_another_kind_is_text(text):
    """YAML 1.2 has no dates, no numbers to base 60, and two words for truth."""
    assert parse_yaml(text) == text
    assert config_from_tree(apply_overrides(MINIMAL, [f"run_dir={text}"])).run_dir == text


def test_aliases_and_merges_are_read():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n"
    assert parse_yaml(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}] * 2}


def test_up_to_the_bounds_everything_is_read():
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deep) == json.loads(deep)
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH} levels"):
        parse_yaml(f"[{deep}]")
    many = [1] * 20_000
    assert parse_yaml(f"[{'1, ' * 20_000}]") == many
    assert plain_copy({"a": many}) == {"a": many}
    with pytest.raises(ConfigError, match="more than 50,000 values"):
        plain_copy({"a": [1] * (MAX_VALUES + 1)})


def test_dictionaries_are_held_to_what_a_file_can_say():
    endless = {}
    endless["data"] = endless
    wide = [1]
    for _ in range(9):
        wide = [wide] * 9
    for tree, line in (
        (endless, "nested deeper than 50 levels."),
        ({"data": {"name": wide}}, "data.name: more than 50,000 values."),
        ({"seed": 10**5000}, "seed: a whole number of more than 64 bits."),
        ({1: 2}, "1: a name has to be text; put it into quotes."),
        ({None: 2, "seed": 10**20}, "None: a name has to be text; put it into quotes."),
        ({"data": {"name": "a\0"}}, "data.name: holds signs that are no text"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(tree)
        assert line in caught.value.problems[0]


def test_a_dictionary_is_a_configuration(tmp_path):
    tree = {"data": {"name": "folder", "root": tmp_path, "crop_size": [65, 97]}, "trainer": {"max_steps": 3}}
    config = load_config(tree, ["trainer.max_steps=5"])
    assert (config.data.root, config.data.crop_size, config.trainer.max_steps) == (str(tmp_path), (65, 97), 5)
    assert tree["trainer"] == {"max_steps": 3}
    path = tmp_path / "c.yaml"
    path.write_text(f"data: {{name: folder, root: {tmp_path}, crop_size: [65, 97]}}\ntrainer: {{max_steps: 5}}\n")
    assert load_config(path) == config
    with pytest.raises(ConfigError, match="data: missing"):
        load_config({})


def test_a_configuration_is_changed_by_making_another():
    config = load_config(MINIMAL)
    for section, key in ((config, "seed"), (config.data, "batch_size"), (config.trainer, "nosuch")):
        with pytest.raises(ConfigError, match=f"{key}: a configuration stays as it was checked"):
            setattr(section, key, "wrong")
    changed = load_config(config.model_dump(), ["trainer.max_steps=7"])
    assert (changed.trainer.max_steps, config.trainer.max_steps) == (7, 3)
    assert load_config(changed.model_dump(), ["trainer.max_steps=3"]) == config


def test_a_file_that_ends_nowhere_is_refused():
    with pytest.raises(ConfigError, match="/dev/zero: larger than 1 MiB"):
        load_config(Path("/dev/zero"))
