"""Every switch reaches the network: parameters and multiply-adds against closed forms, activations counted."""

import pytest
from torch import nn

from laboratory.experiments.paper import CONFIG, EXPERIMENTS, PAPER, chosen_experiments
from laboratory.experiments.results import costs
from laboratory.experiments.runs import plan_runs
from segzoo.config.load import load_config
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import UnknownNameError
from segzoo.tasks.names import known_names
from segzoo.training.build import sketch_network

# (in, out, side of the map at 48 pixels): Fig. 5 of the paper, written down by hand.
MODULES = (
    ((64, 128, 24), (128, 128, 24)),
    ((128, 256, 12), (256, 256, 12)),
    ((256, 728, 6), (728, 728, 6)),
    *[((728, 728, 3),) * 3] * 8,
    ((728, 728, 3), (728, 1024, 3)),
)
LAST = ((1024, 1536, 2), (1536, 2048, 2))
SHORTCUTS = ((64, 128, 12), (128, 256, 6), (256, 728, 3), (728, 1024, 2))


def closed_form(scaled, classes, *, residual=True, multiplier=1, segments=None):
    """Parameters and multiply-adds; `scaled` says how many channels a layer of the paper's width has."""
    parameters = 9 * 3 * scaled(32) + 9 * scaled(32) * scaled(64) + 2 * (scaled(32) + scaled(64))
    macs = 24**2 * (9 * 3 * scaled(32) + 9 * scaled(32) * scaled(64))
    for full_in, full_out, side in [layer for module in (*MODULES, LAST) for layer in module]:
        seen, out = scaled(full_in), scaled(full_out)
        groups = max(count for count in range(1, seen + 1) if seen % count == 0 and count <= (segments or seen))
        weights = 9 * (seen // groups) * seen * multiplier + multiplier * seen * out
        parameters += weights + 2 * out
        macs += side**2 * weights
    for full_in, full_out, side in SHORTCUTS if residual else ():
        weights = scaled(full_in) * scaled(full_out)
        parameters += weights + 2 * scaled(full_out)
        macs += side**2 * weights
    return parameters + (scaled(2048) + 1) * classes, macs + scaled(2048) * classes


SWITCHES = {
    "paper": {},
    "no_residuals": {"residual": False},
    "relu": {},
    "elu": {},
    "segments_1": {"segments": 1},
    "segments_4": {"segments": 4},
    "segments_16": {"segments": 16},
    "multiplier_2": {"multiplier": 2},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One of each network, by name."""
    config = load_config(CONFIG, known_names=known_names())
    planned = plan_runs(config, chosen_experiments(None), seeds=1, output=tmp_path_factory.mktemp("runs"))
    return {run.variant.name: run for run in planned}


def test_the_form_is_the_papers_count():
    assert closed_form(lambda channels: channels, 1000)[0] == 22_855_952


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_costs_what_it_must(name, runs):
    assert runs.keys() == SWITCHES.keys()
    labels = LabelSpace.of_images([str(number) for number in range(7)])
    eights = closed_form(lambda channels: 8 * round(channels / 32), 7, **SWITCHES[name])
    assert costs(runs[name].config, labels) == eights


@pytest.mark.parametrize(("name", "kind"), [("paper", nn.Identity), ("relu", nn.ReLU), ("elu", nn.ELU)])
def test_activation_stands_in_every_separable_convolution(name, kind, runs):
    network = sketch_network(runs[name].config, LabelSpace.of_images(["a", "b"]))
    between = [module for key, module in network.named_modules() if key.endswith("separable.activation")]
    assert len(between) == (0 if name == "paper" else 34)
    assert all(isinstance(module, kind) for module in between)


def test_runs_differ_in_their_switch_and_seed_only(tmp_path):
    config = load_config(CONFIG, ["seed=5"])
    planned = plan_runs(config, chosen_experiments(None), seeds=2, output=tmp_path)
    papers = {run.config.seed: run.config.model_dump() for run in planned if run.variant == PAPER}
    assert papers.keys() == {5, 6}
    assert len({run.folder.path for run in planned}) == len(planned) == 2 * len(SWITCHES)
    for run in planned:
        own = run.config.model_dump()
        differs = {
            key for key, value in own["model"]["backbone"].items() if value != papers[5]["model"]["backbone"][key]
        }
        assert differs == set(run.variant.switch)
        own["model"]["backbone"] = papers[5]["model"]["backbone"]
        assert own == {**papers[run.config.seed], "run_dir": str(run.folder.path)}
        assert {**own, "seed": 5, "run_dir": None} == {**papers[5], "run_dir": None}


def test_names():
    assert [one.name for one in chosen_experiments(None)] == list(EXPERIMENTS)
    with pytest.raises(UnknownNameError, match="--experiment: unknown name 'residuals'. Did you mean residual?"):
        chosen_experiments("residuals")


def test_comparisons_are_between_networks_that_the_experiment_trains():
    for experiment in EXPERIMENTS.values():
        for comparison in experiment.comparisons:
            assert {comparison.first, comparison.second} <= set(experiment.variants)
            assert comparison.first != comparison.second
