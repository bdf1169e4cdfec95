from pathlib import Path

import pytest

from segzoo.config.load import apply_overrides, config_from_tree, dump_config, load_config
from segzoo.errors import ConfigError

MINIMAL = {"data": {"name": "voc"}, "trainer": {"max_steps": 3}}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems(*overrides: str, tree: object = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_from_tree(
            apply_overrides(MINIMAL if tree is None else tree, overrides), known_names={"data.name": ["voc", "camvid"]}
        )
    return caught.value.problems


def test_yaml_1_2_rules(tmp_path: Path) -> None:
    text = "data: {name: on, crop_size: 65}\noptimizer: {learning_rate: 1e-3}\ntrainer: {max_steps: 3}\n"
    config = load_config(write(tmp_path / "c.yaml", text))
    assert config.data.name == "on"  # YAML 1.1 makes it true
    assert config.optimizer.learning_rate == 0.001  # PyYAML makes it a string
    assert config.data.crop_size == (65, 65)


def test_overrides_are_applied_in_order_and_typed() -> None:
    overrides = ["data.batch_size=4", "data.crop_size=[33, 65]", "data.root=null", "data.batch_size=2"]
    config = config_from_tree(apply_overrides(MINIMAL, overrides))
    assert (config.data.batch_size, config.data.crop_size, config.data.root) == (2, (33, 65), None)


def test_overrides_leave_the_original_alone() -> None:
    tree = {"data": {"name": "voc"}}
    apply_overrides(tree, ["data.name=camvid", "seed=3"])
    assert tree == {"data": {"name": "voc"}}


def test_every_problem_in_one_go_one_line_each() -> None:
    found = problems(
        "data.batch_sise=4",
        "data.name=vok",
        "model.output_stride=7",
        "trainer.devices=x",
        "optimizer=3",
        "data.crop_size=[1, b]",
    )
    assert found == [
        "data.crop_size: should be a valid integer, not 'b'",
        "data.batch_sise: unknown key. Did you mean data.batch_size?",
        "model.output_stride: should be 8, 16 or 32, not 7",
        "optimizer: is a section with keys of its own, not 3",
        "trainer.devices: should be a valid integer, not 'x'",
        "data.name: unknown name 'vok'. Did you mean voc?",
    ]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.flip_probability=2"], "data.flip_probability: should be less than or equal to 1, not 2"),
        (["data.batch_size='4'"], "data.batch_size: should be a valid integer, not '4'"),
        (["data.batch_size=true"], "data.batch_size: should be a valid integer, not True"),
        (["optimizer.learning_rate=.nan"], "optimizer.learning_rate: should be a finite number, not nan"),
        (["trainer.max_epochs=2"], "trainer: give exactly one of max_steps and max_epochs, and null for the other"),
        (["data.scale_range=[2.0, 0.5]"], "data: scale_range: 2.0 is above 0.5; write the smaller factor first"),
        (
            ["nosuch.key=1"],
            "nosuch: unknown key. "
            "Known: data, evaluation, loss, model, optimizer, plugins, run_dir, seed, stages, task, trainer.",
        ),
        (["data.name.x=1"], "data.name.x: data.name is a value, not a section."),
        (["data.crop_size=[1, 2, 3]"], "data.crop_size: takes at most 2 values, not [1, 2, 3]"),
        (["data.crop_size=[1]"], "data.crop_size: has too few values: [1]. `--help` explains every key."),
        (["data.crop_size=wide"], "data.crop_size: should be a list, not 'wide'"),
        (["data.preprocessing.mean=[]"], "data.preprocessing.mean: takes at least 1 value(s), not []"),
        (["batch_size"], "batch_size: not understood. Write key.sub=value, such as data.batch_size=4."),
    ],
)
def test_problem_lines(overrides: list[str], line: str) -> None:
    assert problems(*overrides) == [line]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no `key: value` pairs"),
        ("- 1\n", "no `key: value` pairs"),
        ("data:\n  name: a\n  name: b\n", 'line 3: found duplicate key "name"'),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1: tag !!python/object/apply:os.system"),
        ("a: [1\n", "line 2: "),
    ],
)
def test_bad_files_give_one_line_with_the_place(tmp_path: Path, text: str, part: str) -> None:
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(caught.value.problems) == 1
    assert str(path) in str(caught.value)
    assert part in str(caught.value)


def test_missing_file_and_folder() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config("nowhere.yaml")
    with pytest.raises(ConfigError, match="a folder"):
        load_config(Path())


def test_dump_reads_back_to_the_same(tmp_path: Path) -> None:
    config = config_from_tree(apply_overrides(MINIMAL, ["trainer.precision=16", "data.ignore_classes=[a, 'on', '1']"]))
    assert load_config(write(tmp_path / "c.yaml", dump_config(config))) == config


def test_shipped_configs_are_valid(repository: Path) -> None:
    paths = sorted((repository / "configs").glob("*.yaml"))
    assert {path.stem for path in paths} >= {
        "quickstart",
        "deeplab_xception",
        "unet_xception",
        "deeplab_xception_camvid",
    }
    for path in paths:
        load_config(path)
