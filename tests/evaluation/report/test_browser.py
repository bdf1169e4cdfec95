"""The page as a person meets it: in a browser, at two widths, with mouse and keyboard."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from segzoo.evaluation.report.write import write_report

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def made(make_evaluation, run_with_metrics):
    names = ["road", "<b>sky</b>", *(f"class {index}" for index in range(2, 11))]
    return make_evaluation(images=12, names=names, checkpoint=run_with_metrics / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="module")
def report(made, tmp_path_factory) -> Path:
    return write_report(*made, tmp_path_factory.mktemp("report"))


@pytest.fixture
def open_page(browser):
    """Open a file; the test fails on any message in the console and on any request but the file's own."""
    faults, contexts = [], []

    def opened(path, viewport=DESKTOP, **options):
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("request", lambda request: faults.append(request.url) if is_foreign(request.url, path) else None)
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelector('#viewer').hidden === false")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def is_foreign(url, path):
    return not url.startswith("data:") and url.split("#")[0] != path.as_uri()


def column(page, index):
    return page.locator(f"#class-table tbody tr > :nth-child({index})").all_inner_texts()


def shown_ids(page):
    return page.locator("#thumbs li:not([hidden]) .id").all_inner_texts()


def drawn(page):
    """The confusion matrix as it is drawn."""
    return page.evaluate("document.querySelector('#matrix-canvas').toDataURL()")


def colors_of(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return {color for _, color in image.convert("RGB").getcolors(2**24)}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_slider_wipes(open_page, report, viewport):
    page = open_page(report, viewport)
    stage, slider = page.locator("#stage"), page.locator("#wipe")
    stage.scroll_into_view_if_needed()
    before = stage.screenshot()
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "55"
    assert stage.screenshot() != before
    box = stage.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    assert 18 <= int(slider.input_value()) <= 22
    divider = page.locator(".divider").bounding_box()
    assert divider["x"] == pytest.approx(box["x"] + box["width"] * int(slider.input_value()) / 100, abs=2)
    page.keyboard.press("End")
    right = page.locator(".side.right").evaluate("element => getComputedStyle(element).clipPath")
    assert right == "inset(0px 0px 0px 100%)"


def test_layers_are_the_images_own(open_page, report):
    page = open_page(report)
    page.locator("#wipe").focus()
    page.keyboard.press("Home")  # the right layer everywhere
    seen = {}
    page.locator('input[name="right"][value="image"]').focus()
    for layer in ("image", "truth", "prediction", "errors"):
        page.locator(f'input[name="right"][value="{layer}"]').check()
        page.wait_for_timeout(60)
        assert page.locator("#right-chip").inner_text() == layer
        seen[layer] = page.locator("#stage").screenshot()
        if layer != "image":
            source = "JSON.parse(document.querySelector('#data').textContent).gallery[0].layers"
            assert page.locator(".side.right .mask").get_attribute("src") == page.evaluate(source)[layer]
    assert len(set(seen.values())) == 4
    page.keyboard.press("ArrowLeft")
    assert page.locator("#right-chip").inner_text() == "prediction"
    strength = page.locator("#strength")
    strength.focus()
    page.keyboard.press("Home")
    assert page.locator(".side.right .mask").evaluate("element => getComputedStyle(element).opacity") == "0"


def test_thumbnails_and_filters(open_page, report, made):
    evaluation = made[0]
    page = open_page(report)
    by_id = {score.id: score for score in evaluation.per_image}
    everyone = shown_ids(page)
    assert sorted(everyone) == sorted(by_id)
    page.locator("#thumbs button").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#viewer-title").inner_text().startswith(f"{everyone[1]}: ")
    page.locator("#thumbs button").nth(3).click()
    assert page.locator("#viewer-title").inner_text().startswith(f"{everyone[3]}: ")

    page.locator('input[name="group"][value="best"]').check()
    best = sorted(evaluation.per_image, key=lambda score: -score.miou)[:4]
    assert shown_ids(page) == [score.id for score in best]
    assert page.locator("#viewer-title").inner_text().startswith(f"{best[0].id}: ")
    page.locator('input[name="group"][value=""]').check()

    page.locator("#gallery-class").select_option("1")
    having = sorted((score for score in by_id.values() if score.iou[1] is not None), key=lambda score: score.iou[1])
    assert shown_ids(page) == [score.id for score in having]
    shown = page.locator("#thumbs li:not([hidden]) .score").all_inner_texts()
    assert shown == [f"{100 * score.iou[1]:.1f} %" for score in having]
    assert page.locator("#viewer-title").inner_text().startswith(f"{having[0].id}: ")
    assert page.locator("#gallery-count").inner_text() == f"{len(having)} images with <b>sky</b>, lowest IoU first"
    assert page.locator("#gallery-class option").last.evaluate("option => option.disabled"), "no image has the class"


def test_the_class_table_sorts(open_page, report, made):
    evaluation = made[0]
    page = open_page(report)
    heading = page.locator("#class-table thead button", has_text="IoU")
    heading.click()
    order = sorted(range(10), key=lambda k: -evaluation.scores.iou[k])
    assert column(page, 1) == [evaluation.labels.names[k] for k in [*order, 10]]
    heading.press("Enter")
    assert column(page, 1) == [evaluation.labels.names[k] for k in [*reversed(order), 10]]
    assert column(page, 2)[-1].strip() == "n/a"
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.locator("#class-table thead button", has_text="Class").click()
    assert column(page, 1) == list(evaluation.labels.names)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_confusion_matrix(open_page, report, made, viewport):
    evaluation = made[0]
    matrix, names = evaluation.matrix, evaluation.labels.names
    page = open_page(report, viewport)
    canvas, readout = page.locator("#matrix-canvas"), page.locator("#matrix-readout")
    before = drawn(page)
    assert len(colors_of(before)) > 10
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    row, column = 1, 1  # the first key enters at the first cell
    share = f"{100 * int(matrix[row, column]) / int(matrix[row].sum()):.1f} %"
    counts = f"{int(matrix[row, column]):,} of {int(matrix[row].sum()):,} pixels"
    assert readout.inner_text() == f"{names[row]} found: {share}, {counts}"
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    cell = box["width"] / 11
    page.mouse.move(box["x"] + 2.5 * cell, box["y"] + 4.5 * cell)
    assert matrix[4, 2] != matrix[2, 4]
    counts = f"{int(matrix[4, 2]):,} of {int(matrix[4].sum()):,} pixels"
    share = f"{100 * int(matrix[4, 2]) / int(matrix[4].sum()):.1f} %"
    assert readout.inner_text() == f"{names[4]} taken for {names[2]}: {share}, {counts}"
    page.mouse.move(box["x"] + 2.5 * cell, box["y"] + 10.5 * cell)
    assert readout.inner_text().startswith(f"{names[10]}: n/a")
    page.locator("#matrix-class").select_option("4")
    listed = page.locator("#focus-row li").first.inner_text()
    largest = int(matrix[4].argmax())
    assert listed.split("\n")[0].strip() == names[largest]
    assert listed.split("\n")[-1] == f"{100 * int(matrix[4, largest]) / int(matrix[4].sum()):.1f} %"
    listed, largest = page.locator("#focus-column li").first.inner_text(), int(matrix[:, 4].argmax())
    assert listed.split("\n")[0].strip() == names[largest]
    assert listed.split("\n")[-1] == f"{100 * int(matrix[largest, 4]) / int(matrix[:, 4].sum()):.1f} %"
    assert drawn(page) != before


def test_the_most_frequent_mistakes(open_page, report, made):
    evaluation = made[0]
    wrong = evaluation.matrix.clone().fill_diagonal_(0)
    page = open_page(report)
    truth, predicted = divmod(int(wrong.argmax()), 11)
    text = page.locator("#worst-list li").first.inner_text()
    assert text.startswith(f"{evaluation.labels.names[truth]} taken for {evaluation.labels.names[predicted]}")
    assert text.endswith(f"{100 * int(wrong.max()) / int(wrong.sum()):.1f} %")


def test_curves_have_a_cursor(open_page, report):
    page = open_page(report)
    panel = page.locator(".panel").nth(1)
    assert panel.locator("output").inner_text() == "step 300: 38.8 %"
    panel.locator("svg").focus()
    page.keyboard.press("Home")
    assert panel.locator("output").inner_text() == "step 100: 20.0 %"
    panel.scroll_into_view_if_needed()
    box = panel.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] / 2)
    assert panel.locator("output").inner_text() == "step 200: 31.0 %"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_can_be_changed(open_page, report, scheme):
    page = open_page(report, color_scheme=scheme)
    paper = "document.body.computedStyleMap().get('background-color').toString()"
    toggle = page.locator("#theme")
    assert toggle.get_attribute("aria-pressed") == str(scheme == "dark").lower()
    before, matrix = page.evaluate(paper), drawn(page)
    toggle.press("Enter")
    assert page.evaluate(paper) != before
    assert drawn(page) != matrix
    assert toggle.get_attribute("aria-pressed") == str(scheme == "light").lower()
    toggle.click()
    assert page.evaluate(paper) == before
    assert drawn(page) == matrix


CONTRAST = """() => {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !element.checkVisibility() || element.closest('.stage, option, script, .skip')) continue;
    const style = getComputedStyle(element);
    const [ink, paper] = [rgb(element instanceof SVGElement ? style.fill : style.color), behind(element)].map(light);
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) low.push(`${contrast} ${element.tagName} ${element.textContent.slice(0, 30)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_and_everything_has_a_name(open_page, report, scheme):
    page = open_page(report, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, canvas, svg[tabindex]')].filter((e) =>
        !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(set(ids)) == len(ids)


def test_a_phone_scrolls_one_way_only(open_page, report):
    page = open_page(report, PHONE, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator("#classes .scroll").evaluate("element => element.scrollWidth > element.clientWidth")


def test_150_classes(open_page, make_evaluation, tmp_path):
    evaluation, example = make_evaluation(images=6, num_classes=150)
    page = open_page(write_report(evaluation, example, tmp_path))
    canvas = page.locator("#matrix-canvas")
    assert not page.locator("#matrix .rows").is_visible()
    page.locator("#matrix-names").check()
    assert page.locator("#matrix .rows").is_visible()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert page.locator("#matrix-readout").inner_text().startswith("class 0")
    assert page.locator("#matrix").evaluate("element => element.scrollLeft") > 1000
    assert page.locator("#class-table tbody tr").count() == 150


def test_an_image_without_scores(open_page, make_evaluation, tmp_path):
    """One image, all of it ignored, in a report without curves, interval and command."""
    import torch

    from segzoo.evaluation.results import ImageScore

    empty = torch.zeros(11, 11, dtype=torch.int64)
    score = ImageScore(0, "void", None, None, (None,) * 11, 0)
    evaluation, example = make_evaluation(images=1, matrix=empty, per_image=(score,), interval=None, command=None)
    page = open_page(write_report(evaluation, example, tmp_path))
    assert page.locator("#viewer-title").inner_text() == "void: mIoU n/a, pixel accuracy n/a (random)"
    assert page.locator("#worst-list").inner_text() == "no pixels"
