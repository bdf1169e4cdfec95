"""`segzoo` as a user types it, and that the scripts in tools/ are the same."""

import re
import runpy
import signal
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points

import pytest

import segzoo
from segzoo.commands import COMMANDS, call, main

HELP_OF_ALL = """
import contextlib, io, sys
from segzoo.commands import COMMANDS, call, overview

overview()
early = {"pydantic", "rich", "segzoo.cli"} & set(sys.modules)
assert not early, early
for name in COMMANDS:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        call(name, ["--help"])
    first = printed.getvalue().split("\\n")[0]
    assert first.startswith(f"usage: segzoo {name} ["), first
    assert "torch" not in sys.modules, name
"""


@pytest.fixture
def typed(capsys, monkeypatch):
    """What typing `segzoo` and some words gives: status, standard output, standard error."""

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test runner keeps its own

    def type_words(*words):
        monkeypatch.setattr(sys, "argv", ["segzoo", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code, *capsys.readouterr())

    return type_words


OF_DEVELOPERS = {"benchmark.py", "train_baseline.py", "paper_experiments.py", "draw_things.py", "config_schema.py"}
"""Scripts that are no words of `segzoo`."""


def script_name(name):
    return f"{name.replace('-', '_')}.py"


def test_every_script_is_a_command_and_every_command_a_script(repository):
    scripts = {path.name for path in (repository / "tools").glob("*.py")} - OF_DEVELOPERS
    assert scripts == set(map(script_name, COMMANDS))
    modules = {path.stem for path in (repository / "segzoo" / "commands").glob("[!_]*.py")}
    assert modules == {command.home.split(".")[0] for command in COMMANDS.values()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_calls_what_the_command_calls(name, repository):
    module, function = COMMANDS[name].home.split(".")
    script = runpy.run_path(str(repository / "tools" / script_name(name)))
    assert script["main"] is getattr(import_module(f"segzoo.commands.{module}"), function)


def test_help_of_every_command_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", HELP_OF_ALL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_usage_says_how_it_was_called(call_tool, capsys):
    for name in ("train", "predict", "check-data", "backbones"):
        shown = call_tool(script_name(name), "--help").stdout.replace(script_name(name), f"segzoo {name}")
        with pytest.raises(SystemExit):
            call(name, ["--help"])
        command = capsys.readouterr().out
        assert command.split() == shown.split(), name
    assert call_tool("train.py", "--help").stdout.startswith("usage: train.py [")


def test_the_list_has_every_command_with_what_it_does(typed):
    for flag in ("--help", "-h"):
        status, shown, said = typed(flag)
        assert (status, said) == (0, "")
        lines = [line.split(maxsplit=1) for line in shown.splitlines() if line.startswith("  ")]
        assert dict(lines) == {name: command.meaning for name, command in COMMANDS.items()}
        assert max(map(len, shown.splitlines())) <= 100


def test_version(typed):
    assert typed("--version") == (0, f"segzoo {segzoo.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "unknown command 'trian'. Did you mean train?"),
        (["check_data", "x.yaml"], "unknown command 'check_data'. Did you mean check-data?"),
        (["train.py"], "unknown command 'train.py'. Did you mean train?"),
        (["zzz"], f"unknown command 'zzz'. Known: {', '.join(sorted(COMMANDS))}."),
        (["--trian"], "unknown command '--trian'. Did you mean train?"),
        ([], "no command. Try --help."),
        (["--benchmark"], f"unknown command '--benchmark'. Known: {', '.join(sorted(COMMANDS))}."),
    ],
)
def test_what_is_no_command_is_refused_in_a_line(words, line, typed):
    assert typed(*words) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize("name", ["benchmark", "paper-experiments", "config-schema", "train-peer"])
def test_what_the_repository_alone_has_is_refused_with_its_script(name, typed, repository):
    status, shown, said = typed(name, "--help")
    assert (status, shown, len(said.splitlines())) == (2, "", 1)
    (script,) = re.findall(r"`python (tools/\w+\.py)` in a copy of the repository", said)
    assert (repository / script).is_file()


def test_the_package_installs_it():
    (script,) = entry_points(group="console_scripts", name="segzoo")
    assert script.load() is main


def test_a_ready_configuration_trains_and_predicts_anywhere(typed, tmp_path, monkeypatch):
    """In a folder without the repository's; the run in a process of its own."""
    monkeypatch.chdir(tmp_path)
    steps = ("trainer.max_steps=2", "trainer.val_every_steps=2", "trainer.progress=false", "data.num_workers=0")
    small = ("model.backbone.width=0.1", "data.synthetic={train_images: 8, val_images: 2}", "data.batch_size=2")
    line = [sys.executable, "-m", "segzoo", "train", "quickstart", *steps, *small]
    trained = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert trained.returncode == 0, trained.stderr
    (run,) = tmp_path.glob("runs/quickstart/*")
    pictures = sorted((run / "overlays").rglob("*.png"))
    assert pictures
    assert typed("predict", str(run), str(pictures[0]), "--output", "masks")[0] == 0
    assert len(list((tmp_path / "masks").glob("*.png"))) == 1


def test_an_error_of_a_command_keeps_its_line_and_status(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, shown, said = typed("train", "quikstart")
    assert (status, shown) == (2, "")
    assert said.startswith("error: quikstart: no such file. Did you mean quickstart? Ready ones, by name: ")
    assert len(said.splitlines()) == 1
