"""Which file a configuration's name means."""

import os
import tomllib
from pathlib import Path

import pytest

from segzoo.config import load
from segzoo.config.load import find_config, load_config, packaged_configs
from segzoo.errors import ConfigError


def test_they_are_those_of_the_repository(repository):
    files = sorted((repository / "configs").glob("*.yaml"))
    assert {path.stem: path for path in files} == packaged_configs()


def test_the_wheel_gets_all_of_them_where_they_are_looked_for(repository, tmp_path, monkeypatch):
    """A package that has them inside takes those, whatever lies beside it."""
    build = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"] == {"packages": ["segzoo"], "force-include": {"configs": "segzoo/configs"}}  # and no tools
    assert "configs" in build["sdist"]["include"]
    for folder, text in (("segzoo/configs", "seed: 1"), ("configs", "seed: 2")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mine.yaml").write_text(text)
    monkeypatch.setattr(load, "PACKAGE", tmp_path / "segzoo")
    assert packaged_configs() == {"mine": tmp_path / "segzoo" / "configs" / "mine.yaml"}
    assert find_config(Path("mine")).read_text() == "seed: 1"


@pytest.mark.parametrize("name", ["quickstart", "configs/quickstart.yaml"])
def test_a_name_means_the_same_from_anywhere(name, repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # a folder is no configuration
    assert load_config(name) == load_config(repository / "configs" / "quickstart.yaml")


@pytest.mark.parametrize("name", ["quickstart", "configs/quickstart.yaml"])
def test_a_file_of_that_name_comes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("data: {name: synthetic}\ntrainer: {max_steps: 7}\n")
    assert load_config(name).trainer.max_steps == 7


def test_what_is_no_file_may_still_be_read():
    """As a shell's `<(...)` is."""
    reader, writer = os.pipe()
    os.write(writer, b"data: {name: synthetic}\ntrainer: {max_steps: 7}\n")
    os.close(writer)
    assert load_config(f"/dev/fd/{reader}").trainer.max_steps == 7
    os.close(reader)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("quickstrat", "quickstrat: no such file. Did you mean quickstart? Ready ones, by name: deeplab_xception, "),
        ("configs/quickstrat.yaml", "configs/quickstrat.yaml: no such file. Did you mean quickstart? Ready"),
        ("elsewhere/quickstart.yaml", "elsewhere/quickstart.yaml: no such file. Did you mean quickstart? Ready"),
        ("zzz", "zzz: no such file. Ready ones, by name: deeplab_xception, "),
        ("x" * 5000, "x" * 5000 + ": cannot be read (File name too long)."),
        (".", ".: a folder. Name a YAML file, or a ready one, such as quickstart."),
    ],
)
def test_what_means_nothing_is_refused_in_a_line(name, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    (line,) = caught.value.problems
    assert line.startswith(start)
    if "no such" in line:
        assert line.endswith(f"{', '.join(packaged_configs())}.")
