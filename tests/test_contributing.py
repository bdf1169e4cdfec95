"""What CONTRIBUTING.md shows is what happens: its parts train, its commands and folders exist."""

import re
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def page(repository):
    return (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_parts_that_it_adds_train_together(page, repository, tmp_path):
    script = tmp_path / "parts.py"
    script.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)))
    shutil.copytree(repository / "configs", tmp_path / "configs")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    (config,) = tmp_path.glob("runs/*/*/config.yaml")
    for part in ("name: squares", "name: plain", "decoder: linear", "name: brier", "bias: false"):
        assert part in config.read_text()
    assert (config.parent / "checkpoints" / "best.ckpt").is_file()


def test_its_commands_and_folders_exist(page, repository):
    targets = re.findall(r"^make ([\w-]+)", page, flags=re.MULTILINE)
    known = re.findall(r"^([\w-]+):", (repository / "Makefile").read_text(), flags=re.MULTILINE)
    assert len(targets) >= 4
    assert set(targets) <= set(known)
    paths = re.findall(r"`((?:segzoo|tools|docs|tests|configs|data|models)/[\w./]+)`", page)
    paths += re.findall(r"python (tools/\w+\.py)|pytest (tests/[\w/.]+)", page)
    names = [name for found in paths for name in ([found] if isinstance(found, str) else found) if name]
    assert len(names) >= 6
    for name in names:
        assert (repository / name).exists() or (repository / "segzoo" / name).exists(), name
