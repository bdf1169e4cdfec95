"""Through Python as through the commands: what a user can get wrong is a `SegzooError`, whatever the argument."""

import inspect

import numpy as np
import pytest
import torch

import segzoo
from segzoo.errors import ConfigError, DataError, SegzooError

JUNK = (
    *(5, -1, 10**30, 1.5, float("nan"), True, None, "", "nosuch", "a\0b", "x" * 300, "\ud800", "/dev/null"),
    *([], [None], ["nosuch"], ("",), {}, {"a": 1}, object(), print, np.ones((4, 4)), torch.ones(2, 2), int),
)


@pytest.fixture
def calls(tiny_run, tiny_classifier_run, tiny_config, tmp_path, monkeypatch):
    """Each public function with arguments that would do, all of them small."""
    monkeypatch.chdir(tmp_path)
    run, classifier = str(tiny_run.run_dir), str(tiny_classifier_run.run_dir)
    config = tiny_config("trainer.max_steps=1", "trainer.devices=3")  # a batch of 4 is not shared by three: no training
    return {
        "ClassPredictor": {"checkpoint": classifier},
        "Predictor": {"checkpoint": run},
        "build_backbone": {"name": "xception", "width": 0.1},
        "build_classifier": {"name": "xception", "num_classes": 2, "width": 0.1},
        "classify": {"checkpoint": classifier, "source": "nosuch"},
        "evaluate": {"checkpoint": run, "split": "nosuch"},
        "evaluate_classifier": {"checkpoint": classifier, "split": "nosuch"},
        "export": {"checkpoint": run, "format_name": "torch", "output": "no.suffix"},
        "load_classifier": {"checkpoint": classifier},
        "load_config": {"source": "quickstart"},
        "load_plugins": {"plugins": "json"},
        "load_segmenter": {"checkpoint": run},
        "predict": {"checkpoint": run, "source": "nosuch"},
        "push_to_hub": {"source": "nosuch", "repository": "a/b"},
        "register_backbone": {"name": "xception"},
        "register_classification_dataset": {"name": "csv"},
        "register_dataset": {"name": "voc"},
        "register_decoder": {"name": "unet"},
        "register_loss": {"name": "dice"},
        "register_metric": {"name": "miou"},
        "save_model": {"checkpoint": run, "folder": tmp_path},
        "train": {"config": config, "name": "x"},
    }


WITHOUT_ARGUMENTS = {"Section", "SegmentationDataModule", "SegmentationTask", "__version__", "is_first_process"}
WITHOUT_ARGUMENTS |= {"ConfusionMatrix", "MeanIoU", "list_backbones", "register_smp_encoders"}


def test_every_public_function_is_tried(calls):
    assert set(calls) | WITHOUT_ARGUMENTS == set(segzoo.__all__)


@pytest.mark.parametrize("name", sorted(set(segzoo.__all__) - WITHOUT_ARGUMENTS))
def test_a_wrong_type_and_a_wrong_name_are_one_line(name, calls):
    function, good = getattr(segzoo, name), calls[name]
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            with pytest.raises(ConfigError, match=f"^{key}: has to be .*, not object"):
                function(**{**good, key: object()})
    with pytest.raises(ConfigError, match="nosuch"):
        function(**good, nosuch=1)
    with pytest.raises(ConfigError, match="missing a required argument"):
        function()


def test_an_empty_text_is_not_the_current_folder(calls):
    run = calls["predict"]["checkpoint"]
    for name, arguments in (
        ("predict", {"checkpoint": run, "source": ""}),
        ("predict", {"checkpoint": run, "source": "nosuch", "output": ""}),
        ("save_model", {"checkpoint": "", "folder": "x"}),
        ("classify", {**calls["classify"], "source": ""}),
    ):
        key = next(key for key, value in arguments.items() if value == "")
        with pytest.raises(ConfigError, match=rf"^{key}: is empty\. Name a file or a folder\.$"):
            getattr(segzoo, name)(**arguments)


@pytest.mark.parametrize("name", ["predict", "classify"])
def test_amounts_that_are_none_and_requests_that_exclude_each_other(name, calls):
    for wrong, line in (
        ({"batch_size": 0}, "batch_size: 0; it is at least 1"),
        ({"batch_size": -1}, "batch_size: -1; it is at least 1"),
        ({"max_pixels": -4}, "max_pixels: -4; it is at least 1"),
        ({"overwrite": True, "skip_existing": True}, "Give one"),
    ):
        with pytest.raises(ConfigError, match=line):
            getattr(segzoo, name)(**calls[name], **wrong)


@pytest.mark.parametrize(
    ("update", "line"),
    [
        ({"seed": "x"}, "seed: should be a valid integer"),
        ({"data": None}, "data: is a section with keys of its own"),
    ],
)
def test_a_configuration_that_was_made_unchecked(update, line, calls):
    with pytest.raises(ConfigError, match=line):
        segzoo.train(calls["train"]["config"].model_copy(update=update))
    with pytest.raises(ConfigError, match="missing; it has no default"):
        segzoo.train(type(calls["train"]["config"]).model_construct())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(segzoo.__all__) - WITHOUT_ARGUMENTS))
def test_whatever_an_argument_is(name, calls):
    function, good = getattr(segzoo, name), calls[name]
    tried = [{**good, key: value} for key in inspect.signature(function).parameters for value in JUNK]
    faults = []
    for keywords in (*tried, {}):
        try:
            function(**keywords)
        except SegzooError:
            pass
        except Exception as error:  # what this test is about
            changed = {key: value for key, value in keywords.items() if value is not good.get(key)}
            faults.append(f"{changed!r:.80}: {error!r:.300}")
    assert faults == []


@pytest.mark.parametrize("kind", ["Predictor", "ClassPredictor"])
@pytest.mark.parametrize(
    "image",
    [
        *(np.ones((40, 48, 3)), np.ones((40, 48, 3), np.float32), np.ones((40, 48), np.uint8), np.ones((3, 40, 48))),
        *(
            np.array(1),
            np.array(["a"]),
            np.ones((0, 5, 3), np.uint8),
            np.array([None]),
            torch.ones(3, 40, 48),
            [[1]],
            None,
            3,
            "",
            "nosuch",
            "a\0b",
        ),
        *("x" * 300, ".", b"bytes"),
    ],
    ids=repr,
)
def test_what_is_no_image(kind, image, calls):
    with pytest.raises((DataError, ConfigError)) as caught:
        predictors(kind, calls)(image)
    assert len(caught.value.problems) == 1


def predictors(kind, calls):
    if kind not in _MADE:
        _MADE[kind] = getattr(segzoo, kind)(**calls[kind])
    return _MADE[kind]


_MADE = {}
