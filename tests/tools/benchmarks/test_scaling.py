from dataclasses import asdict

import pytest
from PIL import Image

from laboratory.benchmarks.scaling import Curve, Point, draw_scaling, exponent, scaling_table


def curve(grows, power, memory_power, values=(1, 2, 4, 8)):
    points = tuple(Point(value, 0.5 * value**power, int(1000 * value**memory_power)) for value in values)
    return Curve("work", grows, points)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_its_own(power: float) -> None:
    assert exponent([(value, 3.0 * value**power) for value in (1, 2, 5, 30)]) == pytest.approx(power, abs=1e-9)


def test_curves_become_a_table_rows_and_a_plot(parsed, tmp_path) -> None:
    curves = [curve("area", 1.0, 1.0), curve("batch", 2.0, 0.5), curve("processes", 0.0, 1.0)]
    table = parsed(scaling_table(curves))
    assert [row["time grows as"] for row in table] == ["x^1.00", "x^2.00", "x^0.00"]
    assert table[1]["memory grows as"] == "x^0.50"
    assert table[0]["ms"] == "500 – 4,000"
    assert [asdict(curve)["time_exponent"] for curve in curves] == pytest.approx([1, 2, 0], abs=1e-9)
    draw_scaling(curves, tmp_path / "plot.png")
    width, height = Image.open(tmp_path / "plot.png").size
    assert width > height > 500


def test_memory_may_be_missing(parsed, tmp_path) -> None:
    blind = Curve("work", "area", (Point(1, 1.0, None), Point(2, 2.0, None)))
    assert blind.memory_exponent is None
    assert "MiB" not in parsed(scaling_table([blind]))[0]
    draw_scaling([blind], tmp_path / "plot.png")
