"""`task` chooses the schema, and what is wrong is said as well as for segmentation."""

from pathlib import Path

import pytest

from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.explain import explain_text
from segzoo.config.load import apply_overrides, config_from_tree, dump_config, for_segmentation, load_config
from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError

MINIMAL = {"task": "classification", "data": {"name": "csv"}, "trainer": {"max_steps": 3}}
NAMES = {
    "data.name": ["voc"],
    "model.decoder": ["unet"],
    "model.backbone.name": ["xception"],
    "classification:data.name": ["csv", "cifar10"],
}


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_from_tree(apply_overrides(MINIMAL, overrides), known_names=NAMES)
    return caught.value.problems


def test_task_chooses_the_schema() -> None:
    assert isinstance(config_from_tree(MINIMAL, known_names=NAMES), ClassificationRunConfig)
    plain = {"data": {"name": "voc"}, "trainer": {"max_steps": 3}}
    for tree in (plain, {**plain, "task": "segmentation"}):
        assert isinstance(config_from_tree(tree, known_names=NAMES), RunConfig)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("task=classificaton", "task: unknown name 'classificaton'. Did you mean classification?"),
        ("data.name=voc", "data.name: unknown name 'voc'. Known: cifar10, csv."),
        (
            "model.frozen_modules=-1",
            "model.frozen_modules: should be greater than or equal to 0, not -1, or should be ",
        ),
        (
            "model.frozen_modules=some",
            "model.frozen_modules: should be a valid integer, not 'some', or should be 'all'",
        ),
        ("loss.name=dice", "loss.name: unknown key. Known: class_weights, label_smoothing."),
        ("evaluation.tta=true", "evaluation.tta: unknown key. "),
        ("model.backbone.nam=x", "model.backbone.nam: unknown key. Did you mean model.backbone.name?"),
        ("model.backbone.name=xcepton", "model.backbone.name: unknown name 'xcepton'. Did you mean xception?"),
        ("stages=[{task: segmentation}]", "stages[0].task: is said once for all stages. Set it at the top level."),
        ("stages=[{}, {model: {dropuot: 0}}]", "stages[1].model.dropuot: unknown key. Did you mean model.dropout?"),
    ],
)
def test_problem_lines(override: str, line: str) -> None:
    (found,) = problems(override)
    assert found.startswith(line)


@pytest.mark.parametrize("task", ["xyz", "null", "[1]", "{a: 1}"])
def test_a_task_that_is_none_is_one_problem(task: str) -> None:
    found = [line for line in problems(f"task={task}") if line.startswith("task: ")]
    assert found == [f"task: unknown name {found[0][19:].partition('. ')[0]}. Known: classification, segmentation."]


def test_a_misspelt_task_is_held_against_the_one_that_was_meant() -> None:
    found = problems("task=clasification", "model.dropuot=0.1")
    assert found == [
        "model.dropuot: unknown key. Did you mean model.dropout?",
        "task: unknown name 'clasification'. Did you mean classification?",
    ]


def test_segmentation_keys_are_unknown_and_all_problems_come_together() -> None:
    found = problems("data.crop_size=3", "model.decoder=nosuch", "trainer.max_epochs=2", "data.nam=x")
    assert [line.split(": ")[0] for line in found] == ["data.crop_size", "data.nam", "model.decoder", "trainer"]


def test_dump_reads_back_to_the_same(tmp_path: Path) -> None:
    config = config_from_tree(apply_overrides(MINIMAL, ["model.frozen_modules=all", "seed=3"]))
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    assert list(config.model_dump())[:4] == ["task", "data", "model", "loss"]


def test_a_command_for_segmentation_refuses_it() -> None:
    with pytest.raises(ConfigError, match=r"^task: classification, and this is for segmentation only\.$"):
        for_segmentation(config_from_tree(MINIMAL))


def test_help_has_the_keys_that_differ_once() -> None:
    text = explain_text()
    assert text.count("  model.frozen_modules: ") == 1
    assert text.count("  optimizer.learning_rate: ") == 1
    assert text.count("  data.batch_size: ") == 2  # another default


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "xception_imagenet",
            {
                "optimizer": {
                    "name": "sgd",
                    "momentum": 0.9,
                    "learning_rate": 0.045,
                    "step_factor": 0.94,
                    "step_every_epochs": 2,
                    "weight_decay": 1e-5,
                },
                "model": {"dropout": 0.5, "fc_width": None},
            },
        ),
        (
            "xception_jft_style",
            {
                "optimizer": {
                    "name": "rmsprop",
                    "momentum": 0.9,
                    "learning_rate": 0.001,
                    "step_factor": 0.9,
                    "step_every_images": 3_000_000,
                    "weight_decay": 1e-5,
                },
                "model": {"dropout": 0.0, "fc_width": None},
            },
        ),
        (
            "xception_transfer",
            {"optimizer": {"name": "rmsprop", "learning_rate": 1e-4}, "model": {"frozen_modules": 12}},
        ),
    ],
)
def test_recipes_have_the_papers_numbers(name: str, expected: dict, repository: Path) -> None:
    config = load_config(repository / "configs" / f"{name}.yaml")
    for section, values in expected.items():
        assert {key: getattr(getattr(config, section), key) for key in values} == values
    assert config.data.image_size == (299, 299)
    assert (config.optimizer.ema_decay is None) == (name == "xception_transfer")


@pytest.mark.parametrize("widths", [[100], [256, 64], []])
def test_widths_of_hidden_layers_are_a_list_too(widths: list[int]) -> None:
    config = config_from_tree(apply_overrides(MINIMAL, [f"model.fc_width={widths}"]), known_names=NAMES)
    assert isinstance(config, ClassificationRunConfig)
    assert config.model.fc_width == tuple(widths)
    assert ClassificationRunConfig.model_validate(config.model_dump(mode="json")) == config  # as checkpoints keep it
    assert problems("model.fc_width=[100, 0]")
