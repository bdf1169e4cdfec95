"""The pages, and the site that is made of them."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))  # as conf.py does, for `pages` and `figures`


@pytest.fixture(scope="session")
def pages(repository):
    found = sorted((repository / "docs").rglob("*.md"))
    assert len(found) > 10
    return found


@pytest.fixture(scope="session")
def site(repository, tmp_path_factory):
    """The built site; a warning fails whatever needs it."""
    build = pytest.importorskip("sphinx.cmd.build", reason="the extra `docs` builds the site")
    output = tmp_path_factory.mktemp("site")
    arguments = ["--fail-on-warning", "--keep-going", "-q", "-d", str(tmp_path_factory.mktemp("doctrees"))]
    status = build.build_main([*arguments, str(repository / "docs"), str(output)])
    assert status == 0, "sphinx warned; see above"
    return output
