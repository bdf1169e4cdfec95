"""The JSON schema says what the loader says: held against pydantic key by key, and against every file in configs/."""

import copy
import json
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import pytest
from jsonschema import Draft7Validator
from pydantic import ValidationError

from segzoo.config.explain import MODELINE, SCHEMA_FILE, json_schema, schema_keys, schema_line
from segzoo.config.load import SCHEMAS, config_from_tree, read_yaml
from segzoo.errors import ConfigError

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
VALIDATOR = Draft7Validator(SCHEMA)
PROBES = (
    *(True, None, -1, 0, 1, 2, 7, 16, 32, 64, 300, 0.05, 0.5, 1.5, 100.5, 2**31),
    *("", "text", "batch", "32", "auto", "balanced", "all"),
    *([], [1], [0], [1, 2], [0, 1], [0.5, 0.6], [1, 2, 3], [1, 2, 3, 4, 5], ["a"], ["a", 1], [{}], [300, 0, 0]),
    *({}, {"a": 1}, {"a": 0.5}, {"a": -1}, {"a": [1, 2, 3]}, {"a": [0, 256, 0]}, {"a": []}, {"a": ["b"]}, {"a": "b"}),
)
BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))


def base(task):
    return {"task": task, "data": {"name": "mine"}, "trainer": {"max_steps": 1}}


def with_value(tree, key, value):
    tree = copy.deepcopy(tree)
    *sections, last = key.split(".")
    section = tree
    for name in sections:
        section = section.setdefault(name, {})
    section[last] = value
    return tree


def refused_by_schema(tree, key):
    parts = key.split(".")
    return any(list(error.absolute_path)[: len(parts)] == parts for error in VALIDATOR.iter_errors(tree))


def refused_by_loader(tree, key):
    """Whether the key's own value is at fault, and not how it fits to others."""
    parts = tuple(key.split("."))
    try:
        SCHEMAS[tree["task"]].model_validate(tree)
    except ValidationError as error:
        return any(detail["loc"][: len(parts)] == parts for detail in error.errors())
    return False


def definitions():
    return [(name, section) for name, section in SCHEMA["definitions"].items()]


def parts(node):
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from parts(value)
    elif isinstance(node, list):
        for value in node:
            yield from parts(value)


def test_it_is_a_draft_7_schema_where_references_stand_alone():
    Draft7Validator.check_schema(SCHEMA)
    assert [node for node in parts(SCHEMA) if "$ref" in node and len(node) > 1] == []
    assert [node for node in parts(SCHEMA) if "prefixItems" in node or "$defs" in node] == []


def test_every_number_has_the_range_in_which_it_can_work():
    numbers = [node for node in parts(SCHEMA) if node.get("type") in ("integer", "number") and "enum" not in node]
    assert len(numbers) > 90
    assert [node for node in numbers if not all(any(word in node for word in words) for words in BOUNDS)] == []


def test_the_shipped_file_is_up_to_date(call_tool):
    done = call_tool("config_schema.py", "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("task", SCHEMAS)
def test_every_key_is_explained(task):
    section = SCHEMA["definitions"][SCHEMAS[task].__name__]
    for key in schema_keys(SCHEMAS[task]):
        schema = {"allOf": [{"$ref": f"#/definitions/{SCHEMAS[task].__name__}"}]}
        for name in key.path.split("."):
            section = SCHEMA["definitions"][schema["allOf"][0]["$ref"].rpartition("/")[2]]
            schema = section["properties"][name]
        assert schema["description"] == " ".join(key.field.description.split()), key.path


@pytest.mark.parametrize("task", SCHEMAS)
def test_a_value_is_refused_where_the_loader_refuses_it(task):
    both = {True: 0, False: 0}
    for key in (key.path for key in schema_keys(SCHEMAS[task])):
        if key in ("task", "stages"):
            continue
        for value in PROBES:
            tree = with_value(base(task), key, value)
            refused = refused_by_loader(tree, key)
            assert refused_by_schema(tree, key) is refused, (key, value)
            both[refused] += 1
    assert min(both.values()) > 500


@pytest.mark.parametrize("task", SCHEMAS)
def test_unknown_keys_are_refused_in_every_section(task):
    sections = {".".join(key.sections) for key in schema_keys(SCHEMAS[task])}
    assert {"", "data", "model.backbone", "trainer"} <= sections
    for section in sections:
        tree = with_value(base(task), f"{section}.nosuch".removeprefix("."), 1)
        assert "nosuch" in " ".join(error.message for error in VALIDATOR.iter_errors(tree)), section
    for section in sections - {""}:
        assert refused_by_schema(with_value(base(task), section, 3), section), section


@pytest.mark.parametrize("task", SCHEMAS)
def test_defaults_are_the_loaders(task):
    """Each key at the default that the schema names is the configuration that says nothing."""

    def filled(name):
        section = SCHEMA["definitions"][name]["properties"]
        return {
            key: filled(schema["allOf"][0]["$ref"].rpartition("/")[2]) if "allOf" in schema else schema["default"]
            for key, schema in section.items()
            if "allOf" in schema or "default" in schema
        }

    tree = filled(SCHEMAS[task].__name__)
    tree["task"] = task
    tree["data"]["name"] = "mine"
    tree["trainer"]["max_steps"] = 1
    assert tree == config_from_tree(base(task)).model_dump(mode="json")


def test_what_has_to_be_there():
    def missing(tree):
        return sorted(error.message for error in VALIDATOR.iter_errors(tree))

    assert missing({"trainer": {}}) == ["'data' is a required property"]
    assert missing({"data": {}, "trainer": {}}) == ["'name' is a required property"]
    assert missing({"task": "classification", "data": {}}) == [
        "'name' is a required property",
        "'trainer' is a required property",
    ]


def test_the_task_chooses_the_keys():
    segmenter, classifier = base("segmentation"), base("classification")
    assert VALIDATOR.is_valid(with_value(segmenter, "data.crop_size", 65))
    assert not VALIDATOR.is_valid(with_value(classifier, "data.crop_size", 65))
    assert VALIDATOR.is_valid(with_value(classifier, "data.image_size", 65))
    assert not VALIDATOR.is_valid(with_value(segmenter, "data.image_size", 65))
    assert VALIDATOR.is_valid({key: value for key, value in segmenter.items() if key != "task"})
    assert not VALIDATOR.is_valid({**segmenter, "task": "classfication"})


@pytest.mark.parametrize("task", SCHEMAS)
@pytest.mark.parametrize(
    "stage",
    [
        {},
        {"data": {"train_split": "train"}, "optimizer": {"learning_rate": 0.001}},
        {"model": {"norm": "frozen", "backbone": {"drop_path": 0.1}}},
        {"trainer": {"max_steps": 5}},
        {"seed": 3},
        {"seed": "three"},
        {"model": {"norn": "frozen"}},
        {"run_dir": "elsewhere"},
        {"task": "segmentation"},
        {"stages": []},
        {"trainer": {"devices": 2}},
        {"trainer": {"accelerator": "cpu"}},
    ],
)
def test_stages_take_what_the_loader_takes(task, stage):
    tree = {**base(task), "stages": [{}, stage]}
    try:
        config_from_tree(tree)
    except ConfigError:
        accepted = False
    else:
        accepted = True
    assert VALIDATOR.is_valid(tree) is accepted


def test_names_are_proposed_and_others_taken():
    def names(definition, key):
        return SCHEMA["definitions"][definition]["properties"][key]["examples"]

    assert {"voc", "cityscapes", "folder"} <= set(names("DataConfig", "name"))
    assert {"image_folder", "cifar10"} <= set(names("ClassificationDataConfig", "name"))
    assert {"xception", "xception65"} <= set(names("BackboneConfig", "name"))
    assert {"deeplabv3plus", "unet"} <= set(names("ModelConfig", "decoder"))
    assert {"cross_entropy", "dice"} <= set(names("LossConfig", "name"))
    added = SCHEMA["definitions"]["LossConfig"]["properties"]["add"]["properties"]
    assert set(added) == set(names("LossConfig", "name"))
    assert VALIDATOR.is_valid(with_value(base("segmentation"), "loss.add", {"dice": 0.5, "mine": 1}))
    assert not VALIDATOR.is_valid(with_value(base("segmentation"), "loss.add.dice", "much"))
    assert VALIDATOR.is_valid(with_value(base("segmentation"), "model.decoder", "mine"))


def test_a_task_may_have_names_of_its_own():
    schema = json_schema({"data.name": ["voc"], "classification:data.name": ["birds"], "model.decoder": ["unet"]})
    assert schema["definitions"]["DataConfig"]["properties"]["name"]["examples"] == ["voc"]
    assert schema["definitions"]["ClassificationDataConfig"]["properties"]["name"]["examples"] == ["birds"]


def pytest_generate_tests(metafunc):
    if "config_path" in metafunc.fixturenames:
        paths = sorted((metafunc.config.rootpath / "configs").glob("*.yaml"))
        metafunc.parametrize("config_path", paths, ids=[path.stem for path in paths])


def test_configs_are_valid_and_name_the_schema(config_path):
    VALIDATOR.validate(read_yaml(config_path))
    first = config_path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# {MODELINE}")
    assert (config_path.parent / first.removeprefix(f"# {MODELINE}")).resolve() == SCHEMA_FILE.resolve()


def misspelt(tree):
    """The tree once for each of its keys, with that key wrong."""
    for key, value in tree.items():
        others = {name: other for name, other in tree.items() if name != key}
        yield key, {**others, f"{key}x": value}
        if isinstance(value, dict) and key not in ("mask_values", "colors", "merge_classes"):
            yield from ((f"{key}.{name}", {**others, key: wrong}) for name, wrong in misspelt(value))


def test_each_misspelt_key_of_a_config_is_refused(config_path):
    wrong = list(misspelt(read_yaml(config_path)))
    assert len(wrong) > 8
    assert [key for key, tree in wrong if VALIDATOR.is_valid(tree)] == []


def test_the_comment_is_relative_in_a_project(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    line = schema_line(repository / "configs" / "new.yaml")
    assert line == f"{MODELINE}../segzoo/config/schema.json"
    assert schema_line(repository / "new.yaml") == f"{MODELINE}segzoo/config/schema.json"


def test_the_comment_names_the_installed_file_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = schema_line(tmp_path / "new.yaml")
    assert line.startswith(f"{MODELINE}file:///")
    assert " " not in line.removeprefix(MODELINE)
    path = url2pathname(unquote(urlsplit(line.removeprefix(MODELINE)).path))
    assert SCHEMA_FILE.samefile(path)
