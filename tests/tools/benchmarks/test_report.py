import json
from dataclasses import dataclass

from laboratory.benchmarks.report import Report
from segzoo.markdown import Column, markdown_table


@dataclass(frozen=True)
class Row:
    name: str
    value: float


def test_a_report_is_a_table_to_read_and_rows_to_parse(parsed) -> None:
    rows = [Row("a", 1.25), Row("b", 2.0)]
    columns = [Column("name", lambda row: row.name, words=True), Column("value", lambda row: f"{row.value:.1f}")]
    report = Report("part", markdown_table(columns, rows), rows, ("a note",), {"machine": "two cores"})
    assert parsed(report.markdown()) == [{"name": "a", "value": "1.2"}, {"name": "b", "value": "2.0"}]
    assert report.markdown().endswith("\n* a note")
    assert json.loads(report.json()) == {
        "part": "part",
        "machine": "two cores",
        "notes": ["a note"],
        "rows": [{"name": "a", "value": 1.25}, {"name": "b", "value": 2.0}],
    }
