"""The site as it is built: nothing missing, nothing from elsewhere, fit for a phone."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "use": "href"}
STYLE_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get(LOADED.get(tag)):
            self.loaded.append(given[LOADED[tag]])
        self.loaded += [first or second for first, second in STYLE_URL.findall(given.get("style") or "")]


@pytest.fixture(scope="module")
def html(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def is_elsewhere(link):
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def broken(html, path, link):
    """Why a link inside the site leads nowhere; None where it leads somewhere."""
    split = urlsplit(link)
    target = (path.parent / unquote(split.path)).resolve() if split.path else path
    if not target.exists():
        return "no file"
    known = html.get(target)
    if split.fragment and known and unquote(split.fragment) not in known.ids:
        return "no anchor"
    return None


def test_every_page_is_there(html, pages, repository, site):
    expected = {(site / page.relative_to(repository / "docs")).with_suffix(".html") for page in pages}
    assert expected <= html.keys()


def broken_links(html):
    return [
        f"{path.name}: {link}: {reason}"
        for path, page in html.items()
        for link in page.links + page.loaded
        if not is_elsewhere(link) and (reason := broken(html, path, link))
    ]


def foreign_files(html, styles):
    asked = [(path.name, link) for path, page in html.items() for link in page.loaded]
    for path in styles:
        asked += [(path.name, first or second) for first, second in STYLE_URL.findall(path.read_text(encoding="utf-8"))]
    return [pair for pair in asked if is_elsewhere(pair[1]) and not pair[1].startswith("data:")]


def test_links_and_anchors_resolve(html):
    assert sum(len(page.links) for page in html.values()) > 100
    assert broken_links(html) == []


def test_nothing_is_loaded_from_elsewhere(html, site):
    assert foreign_files(html, site.rglob("*.css")) == []


def test_faults_of_a_page_are_noticed(tmp_path):
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "a.css").write_text(
        "@import 'https://fonts.example/x.css'; body { background: url(//cdn.example/y.png) }"
    )
    links = "".join(f'<a href="{link}">x</a>' for link in ("b.html#there", "b.html#gone", "c.html", "#gone"))
    (tmp_path / "a.html").write_text(f'{links}<script src="https://cdn.example/z.js"></script><img src="d.png">')
    html = {path: Page(path.read_text()) for path in tmp_path.glob("*.html")}
    assert broken_links(html) == [
        "a.html: b.html#gone: no anchor",
        "a.html: c.html: no file",
        "a.html: #gone: no anchor",
        "a.html: d.png: no file",
    ]
    foreign = ["https://cdn.example/z.js", "https://fonts.example/x.css", "//cdn.example/y.png"]
    assert [link for _, link in foreign_files(html, tmp_path.glob("*.css"))] == foreign


def test_what_is_generated_is_in_the_pages(html, site):
    for name, things in {
        "reading_xception": ["<svg", "separable 728", "xception41p", "STEM_CHANNELS"],
        "output_stride": ["<svg", "stride 8 · rate 4"],
        "which_decoder": ["segformer", "multiply-adds"],
        "reference/configuration": ["data.batch_size", "evaluation.tile_overlap"],
        "reference/commands": ["--skip-existing", "usage: segzoo find-lr"],
        "reference/python": ["build_backbone", "UnknownNameError", "ClassPredictor"],
    }.items():
        text = (site / f"{name}.html").read_text(encoding="utf-8").replace("<wbr>", "")
        assert [thing for thing in things if thing not in text] == []
        assert "generated:" not in text


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_open_from_disk(browser, html, viewport):
    """No request leaves the site, nothing is said in the console, and no page is wider than the screen."""
    context = browser.new_context(viewport=viewport)
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: faults.append(asked.url) if is_foreign(asked.url) else None)
    for path in html:
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            faults.append(f"{path.name}: wider than {viewport['width']} pixels")
    context.close()
    assert faults == []


def is_foreign(url):
    return urlsplit(url).scheme not in ("file", "data")
