import csv

import numpy as np
import pytest

from segzoo.evaluation.report.plots import HEIGHT, WIDTH, Series, lay_out, read_series


def test_series_are_the_columns_of_the_file(run_with_metrics):
    loss, miou, rate = read_series(run_with_metrics / "metrics.csv")
    with (run_with_metrics / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in {"train", "val"}]
    assert list(loss.values) == [float(row["loss"]) for row in rows if row["split"] == "train"]
    assert list(rate.steps) == [int(row["step"]) for row in rows if row["split"] == "train"]
    assert miou == Series("validation mIoU", (100, 200, 300), (0.2, 0.31, 0.3875), share=True)


def test_broken_rows_and_missing_files(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_series(path) == []
    path.write_text("step,split,loss\n10,train,nan\n20,train,1.5\nx,train,3\n30,train,1")
    assert read_series(path) == [Series("training loss", (20,), (1.5,))]
    path.write_text("step,split,loss\n")
    assert read_series(path) == []


def test_points_lie_where_the_ticks_say():
    panel = lay_out(Series("loss", (0, 50, 100), (1.0, 3.0, 2.0)))
    ticks = [(tick.position, float(tick.label)) for tick in panel.y_ticks]
    slope, offset = np.polyfit([value for _, value in ticks], [position for position, _ in ticks], 1)
    assert [y for _, y in panel.points] == pytest.approx([slope * v + offset for v in (1, 3, 2)], abs=0.05)
    ticks = [(tick.position, float(tick.label)) for tick in panel.x_ticks]
    slope, offset = np.polyfit([value for _, value in ticks], [position for position, _ in ticks], 1)
    assert [x for x, _ in panel.points] == pytest.approx([slope * v + offset for v in (0, 50, 100)], abs=0.05)


@pytest.mark.parametrize("values", [(0.0,), (0.3875,), (2.0, 2.0), (1e-7, 3e-7), (-1.0, 5e9)])
def test_every_point_is_inside(values):
    panel = lay_out(Series("loss", tuple(range(1, len(values) + 1)), values))
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in panel.points)
    assert len({tick.label for tick in panel.y_ticks}) == len(panel.y_ticks)


def test_long_runs_are_thinned_to_their_end():
    panel = lay_out(Series("loss", tuple(range(100_000)), tuple(float(step) for step in range(100_000))))
    assert len(panel.points) <= 601
    assert panel.series.steps[-1] == 99_999
