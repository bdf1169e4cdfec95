"""Means, deviations and verdicts by numbers; curves as they are drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from laboratory.experiments.paper import ELU, PAPER, RELU, Comparison, Measure
from laboratory.experiments.report import draw_experiment, network_table
from laboratory.experiments.results import Curve, Network, Spread, chance_level, verdict


def network(variant, *ends, start=0.1):
    """One run for each accuracy at the end."""
    return Network(variant, 1_234_567, 8_900_000, tuple(Curve((5, 10), (start, end), 40.0) for end in ends))


def test_mean_and_deviation_are_numpys():
    values = np.random.default_rng(0).random((4, 3))
    curves = tuple(Curve((1, 2, 3), tuple(row), 1.0) for row in values.tolist())
    found = Network(PAPER, 1, 1, curves)
    for which, numbers in ((Measure.FINAL, values[:, -1]), (Measure.AVERAGE, values.mean(1))):
        assert found.spread(which).mean == pytest.approx(numbers.mean(), rel=1e-12)
        assert found.spread(which).deviation == pytest.approx(numbers.std(ddof=1), rel=1e-12)


def test_table_shows_them():
    ends = (0.5, 0.6, 0.9)
    (row,) = network_table([network(PAPER, *ends)]).splitlines()[2:]
    average = np.mean([[0.1, end] for end in ends], axis=1)
    shown = [f"{100 * np.mean(x):.1f} ± {100 * np.std(x, ddof=1):.1f}" for x in (ends, average)]
    assert row == f"| the paper's | 1,234,567 | 8.9 M | {shown[0]} | {shown[1]} | 40 | 3 |"
    assert "| 50.0 |" in network_table([network(PAPER, 0.5)])


@pytest.mark.parametrize(
    ("first", "second", "says", "word"),
    [
        ((0.80, 0.82, 0.84), (0.70, 0.72, 0.74), "so", "confirmed"),
        ((0.70, 0.72, 0.74), (0.80, 0.82, 0.84), "so", "contradicted"),
        # Deviations 0.02 and 0.02 make a spread of 0.0283, above their mean and below their sum.
        ((0.80, 0.82, 0.84), (0.773, 0.793, 0.813), "so", "not confirmed"),
        ((0.80, 0.82, 0.84), (0.770, 0.790, 0.810), "so", "confirmed"),
        ((0.80, 0.82, 0.84), (0.80, 0.82, 0.84), "so", "not confirmed"),
        ((0.80, 0.82, 0.84), (0.70, 0.72, 0.74), None, "higher"),
        ((0.70, 0.72, 0.74), (0.80, 0.82, 0.84), None, "lower"),
        ((0.80, 0.82, 0.84), (0.81, 0.83, 0.85), None, "no difference beyond the spread"),
        ((0.9,), (0.1, 0.1), "so", "open"),
        ((0.9,), (0.1,), None, "open"),
        ((0.9, 0.9), (0.8, 0.8), "so", "confirmed"),
    ],
)
def test_verdict_by_numbers(first, second, says, word):
    networks = {PAPER: network(PAPER, *first), RELU: network(RELU, *second)}
    said = verdict(Comparison(PAPER, RELU, says), networks, 0.05)
    assert said.startswith(f"**{word}**: ")
    assert ("the paper: so" in said) == (says is not None)
    difference = 100 * (np.mean(first) - np.mean(second))
    assert f"{difference:+.1f} points" in said


def test_verdict_on_convergence_looks_at_the_whole_run():
    networks = {PAPER: network(PAPER, 0.5, 0.5, start=0.4), ELU: network(ELU, 0.5, 0.5, start=0.1)}
    assert verdict(Comparison(PAPER, ELU, "so"), networks, 0.1).startswith("**not confirmed**")
    assert verdict(Comparison(PAPER, ELU, "so", Measure.AVERAGE), networks, 0.1).startswith("**confirmed**")


@pytest.mark.parametrize(
    ("ends", "learned"),
    [((0.14, 0.15, 0.16), False), ((0.17, 0.18, 0.19), False), ((0.2, 0.2, 0.2), True), ((0.1, 0.2, 0.5), False)],
)
def test_a_network_that_did_not_learn_confirms_nothing(ends, learned):
    """Chance is 1/7; a twentieth of what is left ends at 18.6 %."""
    networks = {PAPER: network(PAPER, 0.9, 0.91, 0.92), RELU: network(RELU, *ends)}
    said = verdict(Comparison(PAPER, RELU, "so"), networks, 1 / 7)
    assert said.startswith("**confirmed**" if learned else "**open**")
    assert ("ReLU between stayed at chance (14.3 %)" in said) != learned
    assert chance_level([(1,), (0,), (1,), (1,)]) == 0.75


def test_nothing_is_said_without_runs():
    assert verdict(Comparison(PAPER, ELU, "so"), {PAPER: network(PAPER, 0.5)}, 0.1) == (
        "**open**: no finished run of ELU between"
    )


def test_deviation_of_one_is_not_zero():
    assert Spread.of([0.3]).deviation is None


def test_curves_show_mean_and_deviation(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), save(figure, *a, **k)))
    ends = (0.5, 0.6, 0.9)
    draw_experiment("title", [network(PAPER, *ends), network(RELU, 0.3)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[5, 10], [10, 100 * np.mean(ends)]])
    (band,) = axes.collections  # one seed has none
    top, bottom = band.get_datalim(axes.transData).ymax, band.get_datalim(axes.transData).ymin
    mean, deviation = 100 * np.mean(ends), 100 * np.std(ends, ddof=1)
    np.testing.assert_allclose((top, bottom), (mean + deviation, 10))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "the paper's, 66.7 %",
        "ReLU between, 30.0 %",
    ]
