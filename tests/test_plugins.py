"""Code of the user's own: found, imported once, and what is wrong with it said in a line."""

import subprocess
import sys

import pytest

from segzoo.config.load import config_from_tree, load_config
from segzoo.errors import ConfigError
from segzoo.plugins import load_plugins, not_loaded
from segzoo.training.run_dir import RunDir

LOSS = """
import segzoo
from torch import nn

@segzoo.register_loss("{name}")
def build(config, labels):
    return nn.CrossEntropyLoss()
"""
TREE = {"data": {"name": "synthetic"}, "trainer": {"max_steps": 1}}


pytestmark = pytest.mark.usefixtures("own_parts")


def written(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def known():
    from segzoo.tasks.names import known_names

    return known_names()


def refusal(*plugins, **keywords):
    with pytest.raises(ConfigError) as caught:
        load_plugins(plugins, **keywords)
    return caught.value.problems


def test_a_file_beside_the_configuration(tmp_path, monkeypatch):
    written(tmp_path, "beside_parts.py", LOSS.format(name="beside"))
    config = written(
        tmp_path, "run.yaml", "plugins: [beside_parts.py]\ndata: {name: synthetic}\ntrainer: {max_steps: 1}\n"
    )
    monkeypatch.chdir("/")
    found = load_config(config, ["loss.name=beside"], known_names=known())
    assert found.loss.name == "beside"
    assert found.plugins == ("beside_parts.py",)
    assert load_config(found.model_dump(), known_names=known()) == found, "it is loaded, wherever it lies"


def test_a_file_and_a_package_in_the_working_directory(tmp_path, monkeypatch):
    written(tmp_path, "here_parts.py", "import here_neighbour\n" + LOSS.format(name="here"))
    written(tmp_path, "here_neighbour.py", "")
    written(tmp_path / "here_package", "parts.py", LOSS.format(name="packaged"))
    monkeypatch.chdir(tmp_path)
    load_plugins(["here_parts.py", "here_package.parts"])
    load_plugins(tmp_path / "here_parts.py")  # again does nothing
    assert {"here", "packaged"} <= {*known()["loss.name"]}
    plugins = load_config(TREE, known_names=known()).plugins
    assert {"here_parts.py", "here_package.parts"} <= {*plugins}, "a checkpoint of this run may need it"


def test_a_file_beside_the_working_directory_is_noted_by_its_whole_path(tmp_path, monkeypatch):
    """Whoever reads the note stands elsewhere."""
    file = written(tmp_path, "outside_parts.py", LOSS.format(name="outside"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    load_plugins("../outside_parts.py")
    assert str(file) in load_config(TREE, known_names=known()).plugins


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import segzoo\n\nx = 1 / 0\n", "ZeroDivisionError: division by zero (line 3 of {file})"),
        ("x = (\n", "SyntaxError: '(' was never closed (wrong_parts.py, line 1) (line 1 of {file})"),
        ("import no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing' (line 1 of {file})"),
        ("import sys\nsys.exit('tired')\n", "SystemExit: tired (line 2 of {file})"),
        ("raise ValueError\n", "ValueError: it says nothing (line 1 of {file})"),
        (LOSS.format(name="dice"), "loss 'dice' is registered already. Take another name, or register it with "),
        (LOSS.format(name="dice"), "replace=True. (line 5 of {file})"),
    ],
)
def test_one_that_fails_is_a_line_with_its_place(tmp_path, text, line):
    file = written(tmp_path, "wrong_parts.py", text)
    [problem] = refusal(file)
    assert problem.startswith(f"{file}: ")
    assert line.format(file=file) in problem


def test_ones_that_are_not_there(tmp_path):
    written(tmp_path, "json.py", "")
    assert refusal("no_parts.py", "no.such.module", tmp_path / "json.py") == [
        "no_parts.py: no such file, neither beside the configuration nor here.",
        "no.such.module: no such module, neither installed nor beside the configuration nor here.",
        f"{tmp_path / 'json.py'}: another module is called json. Give the file a name of its own.",
    ]


def test_a_tree_that_segzoo_wrote_imports_nothing(tmp_path, monkeypatch):
    """As a run's config.yaml or a checkpoint has it; what a person gives to `load_config` does."""
    written(tmp_path, "never_parts.py", "raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"plugins: needs never_parts.py, and code is never run .*--plugin never"):
        config_from_tree({**TREE, "plugins": ["never_parts.py"]})
    assert "never_parts" not in sys.modules
    assert not_loaded(["never_parts.py", "json"]) == ["never_parts.py"]


@pytest.mark.parametrize("plugins", ["x.py", [1], ["x.py", 1], {"a": 1}, [["x.py"]], None])
def test_what_is_no_list_of_files(plugins):
    """Said alone, without the keys and names that they would have brought."""
    with pytest.raises(ConfigError) as caught:
        load_config({**TREE, "plugins": plugins, "loss": {"name": "mine", "mine": {"depth": 1}}}, known_names=known())
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("plugins: should be a list of files and modules, such as [my_parts.py]")


def test_how_to_go_on_names_what_a_run_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunDir(tmp_path / "run").resume_command == f"segzoo train --resume {tmp_path / 'run'}"
    load_plugins(written(tmp_path, "resumed parts.py", LOSS.format(name="resumed")))
    assert RunDir(tmp_path / "run").resume_command.endswith("run --plugin 'resumed parts.py'")


TAKEN = """
import segzoo
for register, name in [
    (segzoo.register_decoder, "unet"),
    (segzoo.register_decoder, "deeplabv3plus"),
    (segzoo.register_backbone, "xception"),
    (segzoo.register_loss, "dice"),
    (segzoo.register_dataset, "voc"),
    (segzoo.register_classification_dataset, "image_folder"),
    (segzoo.register_metric, "miou"),
]:
    try:
        register(name)(lambda *_: None)
    except segzoo.errors.ConfigError as error:
        print(error)
"""


def test_no_name_of_ours_is_free_before_ours_are_registered(tmp_path, repository):
    """In a process that has done nothing else, as one that begins with a plug-in; else ours would fail later."""
    done = subprocess.run(
        [sys.executable, "-c", TAKEN], env={"PYTHONPATH": str(repository)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.count(" is registered already. Take another name") == 7, done.stdout + done.stderr


def test_installed_packages_announce_theirs(tmp_path, repository):
    """One that fails is a warning, and hides no other."""
    written(tmp_path, "good_announced.py", LOSS.format(name="announced"))
    written(tmp_path, "bad_announced.py", "raise OSError('no licence')")
    about = "Metadata-Version: 2.1\nName: announcing\nVersion: 1.0\n"
    points = "[segzoo.plugins]\nfirst = bad_announced\nsecond = good_announced\n"
    written(tmp_path / "announcing-1.0.dist-info", "entry_points.txt", points)
    written(tmp_path / "announcing-1.0.dist-info", "METADATA", about)
    code = (
        "import segzoo\nfrom segzoo.tasks.names import known_names\n"
        "tree = {'data': {'name': 'synthetic'}, 'trainer': {'max_steps': 1}, 'loss': {'name': 'announced'}}\n"
        "print(segzoo.load_config(tree, known_names=known_names()).loss.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{repository}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "announced", done.stderr
    assert "announcing: its plug-in bad_announced fails, so that its parts are unknown: OSError: no" in done.stderr


def test_help_has_its_keys_and_every_command_the_option(tmp_path, repository):
    written(
        tmp_path,
        "help_parts.py",
        'import segzoo\n\nclass Mine(segzoo.Section):\n    depth: int = 3\n    """How deep."""\n\n'
        "@segzoo.register_loss('mine', options=Mine)\ndef build(config, labels, options): ...\n",
    )
    command = [sys.executable, "-m", "segzoo", "train", "--help", "--plugin", "help_parts.py"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(repository)}, capture_output=True, text=True)
    assert "  loss.mine.depth: integer = 3\n      How deep." in done.stdout, done.stderr


def test_every_command_has_the_option(capsys):
    from segzoo.commands import COMMANDS, call

    for name in COMMANDS:
        with pytest.raises(SystemExit) as done:
            call(name, ["--help"])
        assert done.value.code == 0
        assert "--plugin FILE" in capsys.readouterr().out, name


def test_a_missing_one_on_the_command_line(call_tool):
    result = call_tool("check_data.py", "configs/quickstart.yaml", "--plugin", "no_parts.py")
    assert result.returncode == 2
    assert result.stderr == "error: no_parts.py: no such file, neither beside the configuration nor here.\n"
