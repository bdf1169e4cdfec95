"""Options of registered parts as keys of the configuration: one part of ours, one of somebody's own, the same way."""

import pickle

import pytest
from torch import nn

import segzoo
from segzoo.backbones import FeatureSpec
from segzoo.config.explain import explain_text, json_schema
from segzoo.config.load import config_from_tree, dump_config, load_config
from segzoo.config.schema import LossConfig, ModelConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.models.build import build_segmenter
from segzoo.models.decoder import DECODERS, Decoder
from segzoo.tasks.losses import LOSSES, build_loss, register_loss
from segzoo.tasks.names import known_names

TREE = {"data": {"name": "synthetic"}, "trainer": {"max_steps": 1}}
TAPS = [FeatureSpec(channels=4, stride=stride) for stride in (2, 4, 8, 16, 16)]


class MineOptions(segzoo.Section):
    """A decoder of somebody's own."""

    channels: int = 8
    """Channels in the middle."""
    sharp: bool = False
    """Whether it is sharp."""


class NoDefault(segzoo.Section):
    channels: int


class Mine(Decoder):
    def __init__(self, options, config):
        super().__init__()
        self.options, self.config = options, config

    def forward(self, features, size):
        raise NotImplementedError


@pytest.fixture
def mine():
    segzoo.register_decoder("mine", options=MineOptions)(lambda taps, classes, config, own: Mine(own, config))
    yield
    DECODERS.remove("mine")


def load(*overrides, tree=TREE):
    return load_config(tree, overrides, known_names=known_names())


def test_its_keys_are_read_dumped_and_given_to_its_builder(mine, tmp_path):
    config = load("model.decoder=mine", "model.mine.channels=12")
    decoder = DECODERS["mine"].build(TAPS, 3, config.model)
    assert (decoder.options, decoder.config) == (MineOptions(channels=12), config.model)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load(tree=tmp_path / "config.yaml") == config
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301  (our own; processes send it to each other)
    assert DECODERS["mine"].build(TAPS, 3, load("model.decoder=mine").model).options == MineOptions()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.decoder=mine", "model.mine.chanels=3"],
            r"model.mine.chanels: unknown key. Did you mean model.mine.ch",
        ),
        (["model.decoder=mine", "model.mine.channels=a"], r"model.mine.channels: should be a valid integer, not 'a'"),
        (["model.decoder=mine", "model.min.channels=3"], r"model.min: unknown key. Did you mean model.mine\?"),
        (["model.decoder=min"], r"model.decoder: unknown name 'min'. Did you mean mine\?"),
        (["model.decoder=unet", "model.mine.channels=3"], r"decoder unet does not read model.mine. .*does: mine\."),
        (["model.decoder=mine", "model.fpn.dropout=0.1"], r"decoder mine does not read model.fpn. .*does: fpn\."),
    ],
)
def test_what_is_wrong_is_said_as_for_ours(mine, overrides, line):
    with pytest.raises(ConfigError, match=line) as caught:
        load(*overrides)
    assert len(caught.value.problems) == 1


def test_help_and_editors_know_it(mine):
    assert "  model.mine.channels: integer = 8\n      Channels in the middle.\n" in explain_text()
    definitions = json_schema(known_names())["definitions"]
    assert definitions["MineOptions"]["properties"]["sharp"]["description"] == "Whether it is sharp."
    assert "mine" in definitions["ModelConfig"]["properties"]["decoder"]["examples"]


def test_a_run_without_it_does_not_need_it(mine):
    plain = load("model.decoder=unet")
    assert "mine" not in dump_config(plain)
    assert "mine" in load("model.decoder=mine").model_dump()["model"]
    DECODERS.remove("mine")
    assert "model.mine" not in explain_text()
    assert load(tree=plain.model_dump(mode="json")).model.decoder == "unet"
    with pytest.raises(ConfigError, match="model.mine: unknown key"):
        load("model.mine.channels=3")
    segzoo.register_decoder("mine")(lambda taps, classes, config: Mine(None, config))  # for the fixture


def test_again_in_a_notebook(mine):
    class MineOptions(segzoo.Section):
        width: float = 2.0

    with pytest.raises(ConfigError, match="registered already"):
        segzoo.register_decoder("mine", options=MineOptions)(Mine)
    segzoo.register_decoder("mine", options=MineOptions, replace=True)(Mine)
    assert load("model.decoder=mine", "model.mine.width=3").model.mine == MineOptions(width=3.0)
    with pytest.raises(ConfigError, match="unknown key"):
        load("model.decoder=mine", "model.mine.channels=3")


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("norm", MineOptions, "decoder 'norm': model.norm is a key already. Take another name."),
        ("own", NoDefault, "decoder 'own': each of its options needs a default, and these have none: channels."),
        ("own", dict, "decoder 'own': its options have to be a class that extends segzoo.Section."),
    ],
)
def test_options_that_no_configuration_can_hold(name, options, line):
    with pytest.raises(ConfigError) as caught:
        segzoo.register_decoder(name, options=options)(Mine)
    assert caught.value.problems == [line]
    assert name not in DECODERS


def test_a_configuration_from_before_the_registration_has_the_defaults():
    before = ModelConfig(decoder="later")
    segzoo.register_decoder("later", options=MineOptions)(lambda taps, classes, config, own: Mine(own, config))
    try:
        assert DECODERS["later"].build(TAPS, 3, before).options == MineOptions()
    finally:
        DECODERS.remove("later")


def test_a_loss_with_options_and_shared_keys():
    @register_loss("mine", options=MineOptions, reads=("class_weights",))
    def build(config, labels, own):
        return nn.Linear(own.channels, len(config.class_weights))

    try:
        config = load("loss.add.mine=0.5", "loss.mine.channels=3", "loss.class_weights=[1, 2]").loss
        assert build_loss(config, LabelSpace.from_names(["a", "b"])).terms[1].weight.shape == (2, 3)
        with pytest.raises(ConfigError, match="loss dice does not read loss.class_weights, loss.mine"):
            load("loss.name=dice", "loss.mine.channels=3", "loss.class_weights=[1, 2]")
    finally:
        LOSSES.remove("mine")
    assert LossConfig(name="mine").chosen == ("mine",)


def test_python_callers_are_refused_as_they_build():
    """Their configuration may have been checked before the decoders and losses were known."""
    fpn = {"fpn": {"dropout": 0.1}, "decoder": "fpn", "output_stride": 32}
    unread = ModelConfig.model_validate(fpn).model_copy(update={"decoder": "segformer"})
    with pytest.raises(ConfigError, match="model: decoder segformer does not read model.fpn"):
        build_segmenter(unread, 3)
    idle = LossConfig(name="dice", dice={"smooth": 1.0}).model_copy(update={"name": "lovasz"})
    with pytest.raises(ConfigError, match="loss: loss lovasz does not read loss.dice"):
        build_loss(idle, LabelSpace.from_names(["a", "b"]))


def test_removed_is_unknown():
    with pytest.raises(UnknownNameError, match="Unknown decoder 'unett'. Did you mean unet"):
        DECODERS.remove("unett")
    assert config_from_tree(TREE).model.decoder in DECODERS
