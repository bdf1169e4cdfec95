import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from segzoo.data.datasets import cityscapes
from segzoo.data.reading.labels import LabelSpace
from segzoo.evaluation.report.pictures import MAX_BYTES
from segzoo.evaluation.report.task_pages import PER_GROUP
from segzoo.evaluation.report.write import write_report
from segzoo.evaluation.results import ImageScore
from segzoo.tasks.metrics.segmentation import dice, frequency_weighted_iou, precision, recall

NASTY = [
    "<b>bold</b>",
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "{{ 7 * 7 }}",
    "ß → é",
    "last",
]


class Texts(HTMLParser):
    """The texts of a page's table rows and definition lists, and all its tags with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.rows, self.terms, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")
        if tag in {"dt", "dd"}:
            self.terms.append("")
        self.inside = tag

    def handle_endtag(self, tag):
        if tag in {"tr", "dd", "dt"}:
            self.inside = None
        if tag == "table":
            self.rows.append([])

    def handle_data(self, text):
        if self.inside in {"th", "td", "div", "span", "button"} and self.rows and self.rows[-1]:
            self.rows[-1][-1] += text.strip()
        if self.inside in {"dt", "dd"}:
            self.terms[-1] += text

    @property
    def facts(self):
        return dict(zip(self.terms[::2], self.terms[1::2], strict=True))


def percent(value):
    return "n/a" if value is None else f"{100 * value:.1f} %"


def written(made, output, **changes):
    path = write_report(*made, output)
    page = path.read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    return page, data, Texts(page)


def test_numbers_are_the_evaluations(make_evaluation, run_with_metrics, tmp_path):
    made = make_evaluation(images=9, checkpoint=run_with_metrics / "checkpoints" / "best.ckpt")
    evaluation = made[0]
    page, data, texts = written(made, tmp_path)
    assert f'id="miou">{percent(evaluation.scores.miou)}</p>' in page
    assert texts.facts["Pixel accuracy"] == percent(evaluation.scores.pixel_accuracy)
    assert texts.facts["Frequency-weighted IoU"] == percent(frequency_weighted_iou(evaluation.matrix))
    rows = texts.rows[1:12]
    for k, (name, *shown, pixels) in enumerate(rows):
        assert name == evaluation.labels.names[k]
        columns = (
            evaluation.scores.iou,
            recall(evaluation.matrix),
            precision(evaluation.matrix),
            dice(evaluation.matrix),
        )
        assert shown == [percent(column[k]) for column in columns]
        assert pixels == f"{int(evaluation.matrix[k].sum()):,}"
    assert rows[-1][1:-1] == ["n/a"] * 4  # the class that is nowhere
    assert data["matrix"] == evaluation.matrix.tolist()
    scores = {score.id: score for score in evaluation.per_image}
    for entry in data["gallery"]:
        assert entry["iou"] == list(scores[entry["id"]].iou)
        assert entry["texts"] == [percent(value) for value in scores[entry["id"]].iou]
        assert entry["miou"] == percent(scores[entry["id"]].miou)
    assert [panel["texts"][-1] for panel in data["panels"]][1] == f"step 300: {percent(0.3875)}"


def test_the_interval_and_optional_scores(make_evaluation, tmp_path):
    boundary = {"mean_iou": 0.25, "mean_f_score": 0.75, "iou": (0.25,) * 11, "f_score": (0.75,) * 11}
    names = cityscapes.LABELS.names[:11]  # road and sidewalk are flat; the last one, sky, is nowhere
    made = make_evaluation(names=names, others={f"boundary/{name}": value for name, value in boundary.items()})
    matrix = made[0].matrix
    flat = int(matrix[:2, :2].sum()) / int(matrix[:2].sum() + matrix[:, :2].sum() - matrix[:2, :2].sum())
    page, _, texts = written(made, tmp_path)
    assert "41.2 % to 59.9 %: 95 % interval over images, 1,000 resamples" in page
    assert texts.facts["Boundary F-score"] == "75.0 %"
    assert texts.facts["flat"] == percent(flat)
    assert texts.facts["sky"] == "n/a"
    assert texts.rows[1][5:7] == ["25.0 %", "75.0 %"]
    page, _, _ = written(make_evaluation(interval=None, command=None), tmp_path)
    assert "resamples" not in page
    assert "without a command line" in page


def test_names_are_text_and_never_markup(make_evaluation, tmp_path):
    made = make_evaluation(names=NASTY, command="evaluate.py '<img src=x onerror=alert(1)>'")
    page, data, texts = written(made, tmp_path)
    assert [entry["name"] for entry in data["classes"]] == NASTY
    assert [row[0] for row in texts.rows[1:7]] == NASTY
    assert not any(tag == "b" for tag, _ in texts.tags)
    assert "alert(1)</script>" not in page
    scripts = [attributes for tag, attributes in texts.tags if tag == "script"]
    assert [script.get("type") for script in scripts] == ["application/json"] + ["module"] * 5
    assert all(attributes.get("src", "data:").startswith("data:") for _, attributes in texts.tags)
    assert not any(tag == "link" and not attributes["href"].startswith("data:") for tag, attributes in texts.tags)


@pytest.mark.usefixtures("with_plots")
def test_plots_lie_beside_the_page(make_evaluation, run_with_metrics, tmp_path):
    names = [r"$\frac$", "_a^b", *"cdefghijk"]  # matplotlib would read the first as a formula, and fail
    write_report(*make_evaluation(names=names, checkpoint=run_with_metrics / "checkpoints" / "x.ckpt"), tmp_path)
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == ["confusion.png", "curves.png", "per_class_iou.png"]
    for name in plots:
        with Image.open(tmp_path / "plots" / name) as image:
            assert min(image.size) > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plots", "report.html"]


def write_500(make_evaluation, folder, size):
    """500 images of noise, which nothing compresses, and 150 classes; what was written, and who was asked for."""
    evaluation, example = make_evaluation(images=2, num_classes=150, size=size, noise=True)
    per_image = tuple(ImageScore(i, f"{i}", i / 500, i / 500, evaluation.scores.iou, 10) for i in range(500))
    made = make_evaluation(images=1, num_classes=150, per_image=per_image)[0]
    asked = []
    path = write_report(made, lambda index: asked.append(index) or example(index % 2), folder)
    return path.stat().st_size, asked


def test_only_the_gallerys_images_are_asked_for(make_evaluation, tmp_path):
    size, asked = write_500(make_evaluation, tmp_path, (60, 80))
    assert len(set(asked)) == len(asked) == 36
    assert asked[:12] == list(range(12))
    assert asked[12:24] == list(range(499, 487, -1))
    assert size < 2_000_000
    assert 3 * PER_GROUP * MAX_BYTES + size < 20_000_000  # with the largest pictures that are let in


@pytest.mark.slow
def test_500_large_noisy_images_stay_under_20_megabytes(make_evaluation, tmp_path):
    size, _ = write_500(make_evaluation, tmp_path, (360, 480))
    assert 5_000_000 < size < 20_000_000


@pytest.mark.usefixtures("with_plots")
def test_multi_label(make_evaluation, tmp_path):
    evaluation, example = make_evaluation(images=3, num_classes=3)
    labels = LabelSpace.from_names(evaluation.labels.names, multi_label=True)

    def planes(index):
        one = example(index)
        split = [
            torch.nn.functional.one_hot(torch.from_numpy(m.astype("int64") % 3), 3) for m in (one.truth, one.prediction)
        ]
        truth, prediction = (mask.permute(2, 0, 1).numpy().astype("uint8") for mask in split)
        return type(one)(one.image, truth, prediction)

    tables = torch.tensor([[[5, 1], [2, 7]], [[9, 0], [3, 4]], [[15, 0], [0, 0]]])
    made = make_evaluation(images=3, num_classes=3, labels=labels, matrix=tables)[0], planes
    page, data, texts = written(made, tmp_path)
    assert data["matrix"] is None
    assert [row[-1] for row in texts.rows[1:4]] == ["9", "7", "0"]
    assert "A pixel may have several classes" in page
    assert not (tmp_path / "plots" / "confusion.png").exists()


def test_nothing_to_score(make_evaluation, tmp_path):
    """All pixels ignored: no mIoU, no class, and still a page."""
    empty = torch.zeros(11, 11, dtype=torch.int64)
    score = ImageScore(0, "void", None, None, (None,) * 11, 0)
    made = make_evaluation(images=1, per_image=(score,), interval=None, matrix=empty)
    page, data, texts = written(made, tmp_path)
    assert texts.facts["Pixel accuracy"] == "n/a"
    assert data["gallery"][0]["miou"] == "n/a"
    assert 'id="miou">n/a</p>' in page


@pytest.mark.parametrize("name", ["report.html", "report.css", "gallery.js", "confusion.js"])
def test_the_template_is_in_the_package(name):
    from importlib.resources import files

    assert files("segzoo.evaluation.report").joinpath("template", name).is_file()
