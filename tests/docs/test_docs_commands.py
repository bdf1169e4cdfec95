"""What the pages tell people to type: every command is typed here, or at least understood by its tool."""

import argparse
import ast
import io
import re
import shlex
import sys
import tomllib
from contextlib import redirect_stdout
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from blocks import blocks_of, spans_of
from pages import MARKS

import segzoo
from segzoo.commands import COMMANDS
from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.load import config_from_tree, load_config, packaged_configs, read_yaml
from segzoo.config.schema import RunConfig
from segzoo.config.trees import merged
from segzoo.data.datasets.prepare import recipes
from segzoo.errors import SegzooError
from segzoo.tasks.names import known_names

SHORT = (
    "trainer.max_steps=2",
    "trainer.max_epochs=null",
    "trainer.val_every_steps=2",
    "trainer.log_every_steps=1",
    "trainer.overlay_images=1",
    "trainer.progress=false",
    "data.batch_size=2",
    "data.num_workers=0",
    "model.backbone.width=0.1",
)
"""What the tests change in the runs of the pages, so that they take a second."""
SHORT_SEGMENTATION = (
    *SHORT,
    "data.crop_size=64",
    "data.synthetic={train_images: 8, val_images: 4, size: [64, 96]}",
)

TRAINERS = ("train.py", "find_lr.py", "benchmark.py")
SCRIPT = re.compile(r"(tools|docs)/\w+\.py")
KEY = re.compile(r"[a-z_]+(\.[a-z_0-9]+)+")
DOCS = Path(__file__).resolve().parents[2] / "docs"
README = "../README.md"
PAGES = [README, *sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))]
TOGETHER = ("your_own_data.md", "big_images.md")
MADE_ON_THE_WAY = "configs/my_folder.yaml"
"""Stands for configurations that the pages write."""
OF_CLASSIFIERS = "configs/xception_transfer.yaml"
"""Where keys of classification are tried."""


@pytest.fixture(scope="session")
def pages(pages, repository):
    """The README is one of them."""
    return [repository / "README.md", *pages]


def runnable(block):
    return block.language in ("sh", "python") and not block.mark


def script_of(words):
    """The script that a command runs, also behind a launcher, and its arguments.

    `segzoo train` is tools/train.py: `test_a_script_calls_what_the_command_calls`.
    """
    for place, word in enumerate(words):
        if SCRIPT.fullmatch(word):
            return word, words[place + 1 :]
        if word == "segzoo" and words[0] != "cd":
            name, *arguments = words[place + 1 :] or [""]
            return f"tools/{name.replace('-', '_')}.py" if name in COMMANDS else f"segzoo {name}", arguments
    return None, []


def load_script(path):
    """A script as a module."""
    loader = SourceFileLoader(f"script_{path.stem}", str(path))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


# Every block is accounted for.


def test_blocks_are_commands_or_what_they_print(pages):
    wrong = []
    for page in pages:
        before = None
        for block in blocks_of(page):
            if block.language == "text":
                if block.mark != "output" or before is None or not runnable(before):
                    wrong.append(f"{block}: text that belongs to no command")
            elif block.language not in ("sh", "python", "bash", "yaml", "{toctree}", "{eval-rst}"):
                wrong.append(f"{block}: language {block.language!r}")
            elif block.mark and block.mark not in MARKS:
                wrong.append(f"{block}: mark {block.mark!r}, not one of {', '.join(MARKS)}")
            before = block
    assert wrong == []


class Understood(Exception):
    """Raised in place of what a tool would do, with its parsed arguments."""


def parsed(script, arguments, repository, monkeypatch):
    """A tool's arguments, or the complaint of its parser."""

    def stop(parse):
        def parse_and_stop(self, *given, **options):
            raise Understood(parse(self, *given, **options))

        return parse_and_stop

    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stop(getattr(argparse.ArgumentParser, name)))
        patch.setattr(sys, "argv", [script])
        try:
            load_script(repository / script).main(arguments)
        except Understood as understood:
            return understood.args[0], None
        except SystemExit as left:
            return None, f"refused by its parser ({left.code})"
    return None, "did not parse its arguments"


def config_problems(config, overrides):
    """What the schema says of a configuration, by file or name, with changes."""
    ready = config and (config.startswith("configs/") or not config.endswith(".yaml"))
    path = config if ready or (config and Path(config).is_file()) else MADE_ON_THE_WAY
    try:
        load_config(path, overrides, known_names=known_names())
    except SegzooError as error:
        return error.problems
    return []


def command_problems(words, repository, monkeypatch):
    """Why a command could not be meant; nothing where it could."""
    script, arguments = script_of(words)
    if script in ("segzoo --help", "segzoo --version"):
        return []
    if script is not None:
        if not (repository / script).is_file():
            return [f"no {script}"]
        if "--help" in arguments:
            return []
        options, complaint = parsed(script, arguments, repository, monkeypatch)
        if options is None:
            return [f"{script}: {complaint}"]
        overrides = list(getattr(options, "overrides", []))
        config = getattr(options, "config", None)
        if config and "=" in config:  # tools/train.py --resume RUN_DIR key=value
            config, overrides = None, [config, *overrides]
        return config_problems(config, overrides)
    return foreign_problems(words, repository)


def foreign_problems(words, repository):
    """The same of commands that are not ours."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    match words:
        case ["python", "-m", "pytest", *paths] if paths and all((repository / path).exists() for path in paths):
            return []
        case ["pip", "install", what] | ["python", "-m", "pip", "install", what]:
            names = re.fullmatch(r"\.\[([\w,]+)\]", what)
            return [] if names and set(names[1].split(",")) <= extras.keys() else [f"no extra as in {what}"]
        case ["git", "clone", address]:
            return [] if address in project["urls"]["Documentation"] else ["not the address in pyproject.toml"]
        case ["cd", "segzoo"] | ["python3", "-m", "venv", ".venv"] | ["source", ".venv/bin/activate"]:
            return []
        case ["make", target]:
            known = re.findall(r"^([\w-]+):", (repository / "Makefile").read_text(), re.MULTILINE)
            return [] if target in known else ["no such target"]
        case ["python", "-m", "sphinx", "--fail-on-warning", "docs", _]:  # the site's tests build it
            return []
    return [f"not understood: {' '.join(words)}"]


def test_every_command_is_understood_by_its_tool(pages, repository, monkeypatch):
    monkeypatch.chdir(repository)
    found = [
        f"{block}: {' '.join(words)}: {problem}"
        for page in pages
        for block in blocks_of(page)
        if block.language in ("sh", "bash")
        for words in block.commands
        for problem in command_problems(words, repository, monkeypatch)
    ]
    assert found == []


@pytest.mark.parametrize(
    "command",
    [
        ["segzoo", "train", "configs/quickstart.yaml", "data.batch_sise=4"],
        ["segzoo", "train", "xception_transfer", "data.crop_size=4"],
        ["segzoo", "train", "configs/quickstart.yaml", "--resum", "x"],
        ["segzoo", "train", "configs/nosuch.yaml"],
        ["segzoo", "train", "quikstart"],
        ["segzoo", "trian", "configs/quickstart.yaml"],
        ["segzoo", "check_data", "configs/quickstart.yaml"],
        ["segzoo", "predict", "runs/first", "images", "--shards", "0/2"],
        ["torchrun", "--nproc-per-node", "4", "-m", "segzoo", "train", "quickstart", "trainer.device=4"],
        ["python", "tools/nosuch.py"],
        ["pip", "install", ".[nosuch]"],
        ["pip", "install", "xception-segzoo[onnx]"],  # nothing is published under this name
        ["git", "clone", "https://github.com/nobody/segzoo"],
        ["python", "-m", "pytest", "tests/nosuch.py"],
        ["make", "nosuch"],
        ["rm", "-r", "runs"],
    ],
)
def test_what_is_wrong_is_noticed(command, repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert command_problems(command, repository, monkeypatch)


def test_headers_of_the_ready_configurations_are_commands(repository, monkeypatch):
    monkeypatch.chdir(repository)
    for name, path in packaged_configs().items():
        lines = re.findall(r"^# (segzoo .*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        commands = [shlex.split(line, comments=True) for line in lines]
        assert commands[-1][1:3] in (["train", f"configs/{name}.yaml"],)
        assert [command_problems(words, repository, monkeypatch) for words in commands] == [[]] * len(commands)
        roots = [f"data/{recipes()[words[2]].recipe.folder}" for words in commands if words[1] == "prepare-data"]
        assert roots in ([], [load_config(path).data.root])


def test_pages_outside_the_site_lead_somewhere(repository):
    for name in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\(([^)#:\s]+)(?:#([\w-]+))?\)", (repository / name).read_text(encoding="utf-8"))
        assert [page for page, anchor in links if not leads_somewhere(repository / page, anchor)] == []


def leads_somewhere(page, anchor):
    """Whether a page is there, with a heading that gives the anchor on GitHub and in the site."""
    if not anchor:
        return page.exists()
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_can_be_read_without_the_site(pages):
    """GitHub shows a link without a text as nothing, and nothing in the place of what is generated."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "[](" not in text, page
        made = "<!-- generated:" in text or "```{eval-rst}" in text
        assert made == ("`make docs` builds the pages as a site in `build/docs/index.html`" in text), page


def test_a_configuration_that_is_called_whole_is_whole(repository, tmp_path):
    (block,) = [block for block in blocks_of(repository / "README.md") if block.language == "yaml"]
    (tmp_path / "cells.yaml").write_text(block.text)
    assert load_config(tmp_path / "cells.yaml", known_names=known_names()).trainer.max_steps == 500


def test_python_compiles_and_its_imports_are_there(pages):
    for page in pages:
        for block in blocks_of(page):
            if block.language == "python":
                code = compile(block.text, str(block), "exec")
                names = [line for line in block.text.splitlines() if line.startswith(("import ", "from "))]
                exec("\n".join(names), {})  # noqa: S102  (our own pages)
                assert code


def test_yaml_holds_keys_of_the_schema(pages, repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    for page in pages:
        for block in blocks_of(page):
            if block.language == "yaml":
                problems = yaml_problems(block.text, tmp_path)
                assert problems == [], f"{block}: {problems}"


def yaml_problems(text, folder):
    """Problems of a part of a configuration, put over a whole one."""
    (folder / "part.yaml").write_text(text)
    try:
        config_from_tree(merged(read_yaml(Path(MADE_ON_THE_WAY)), read_yaml(folder / "part.yaml")))
    except SegzooError as error:
        return error.problems
    return []


# What stands in the text.


def test_names_in_the_text_exist(pages, repository, monkeypatch):
    monkeypatch.chdir(repository)
    tests = {
        name
        for path in (repository / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    scripts = [*(repository / "segzoo" / "commands").glob("*.py"), *(repository / "tools").glob("*.py")]
    options = {option for path in scripts for option in options_of(path)}
    found = []
    for page in pages:
        for number, span in spans_of(page, without_first_column=page.name.startswith("from_")):
            problem = span_problem(span, tests, options, repository)
            if problem:
                found.append(f"{page.name}:{number}: {span}: {problem}")
    assert found == []


def options_of(tool):
    return re.findall(r'"(--[a-z-]+)"', tool.read_text(encoding="utf-8"))


def span_problem(span, tests, options, repository):
    """Why a piece of code in the text means nothing; None where it does, or where it is no name of ours."""
    if span.startswith("test_") and span.isidentifier():
        return None if span in tests else "no such test"
    if re.fullmatch(r"--[a-z-]+", span):
        return None if span in {*options, "--help", "--version", "--signal"} else "no such option"
    if match := re.match(r"segzoo ([a-z][\w-]*)", span):
        return None if match[1] in COMMANDS else "no such command"
    if re.fullmatch(r"(tools|configs|segzoo|docs|tests)/[\w./]*", span):
        return None if (repository / span).exists() else "no such file"
    if re.fullmatch(r"segzoo(\.\w+)+(\(\))?", span):
        return None if resolves(span.removesuffix("()")) else "no such name"
    assignments = re.split(r"(?<=\S) (?=[a-z_]+\.[a-z_.]+=)", span)
    if span != "key.sub=value" and all(KEY.match(one) and "=" in one for one in assignments):
        free = "loss.class_weights=null"  # which few losses read
        tried = config_problems(MADE_ON_THE_WAY, [free, *assignments]), config_problems(OF_CLASSIFIERS, assignments)
        return "; ".join(tried[0]) if all(tried) else None
    if KEY.fullmatch(span) and span.split(".")[0] in RunConfig.model_fields:
        return None if has_key(RunConfig, span) or has_key(ClassificationRunConfig, span) else "no such key"
    return None


def has_key(model, key):
    for part in key.split("."):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return False
        model = field.annotation
    return True


def resolves(name):
    found, *rest = name.split(".")
    thing = import_module(found)
    for part in rest:
        try:
            thing = getattr(thing, part)
        except AttributeError:
            try:
                thing = import_module(f"{thing.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
    return True


# What segzoo says.


def test_messages_that_are_explained_are_in_the_code(repository):
    said = list(messages_in(repository / "segzoo"))
    page = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## Files and folders")[2]
    first_cells = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
    quoted = [span for cell in first_cells for span in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 12
    assert [message for message in quoted if not is_said(message, said)] == []


def test_a_message_that_nobody_says_is_noticed(repository):
    said = list(messages_in(repository / "segzoo"))
    assert is_said("mask is …x… but its image", said)
    assert not is_said("mask is …x… and its image", said)


def messages_in(package):
    """The strings of the code, with a line feed where a value is put in."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def is_said(message, said):
    parts = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
    return any(parts.search(text) for text in said)


@pytest.mark.parametrize(
    "span",
    [
        "test_nothing_of_this_name",
        "--nosuch",
        "segzoo trian my_data.yaml",
        "tools/nosuch.py",
        "segzoo.nosuch",
        "data.nosuch",
        "data.batch_size=no",
    ],
)
def test_a_wrong_name_is_noticed(span, repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert span_problem(span, {"test_other"}, {"--output"}, repository)


# What is typed.


@pytest.fixture
def desk(repository, tmp_path, monkeypatch, call_tool, own_parts):
    """A folder to type in: the repository's files, and nothing that a run would have left there."""
    for name in ("configs", "tools", "docs"):
        (tmp_path / name).symlink_to(repository / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(segzoo, "load_config", shortened, raising=False)
    return tmp_path


def shortened(path, changes=(), **options):
    """`segzoo.load_config` of a script in the pages, with its run turned down."""
    return load_config(path, [*SHORT_SEGMENTATION, *changes], **options)


def type_command(words, call_tool):
    """Run a command of a page; its status and what it printed."""
    script, arguments = script_of(words)
    if script is None or script.startswith("segzoo"):
        return 0, ""  # pytest, pip and sphinx: checked above; the list of commands: tests/commands
    name = Path(script).name
    if name in TRAINERS and not {"--resume", "--print-config", "--help"} & set(arguments):
        config = next(word for word in arguments if word.endswith(".yaml") or word in packaged_configs())
        classifies = isinstance(load_config(config), ClassificationRunConfig)
        arguments = [*arguments, *(SHORT if classifies else SHORT_SEGMENTATION)]
        if name == "train.py" and not is_used_later(arguments) and "--check" not in arguments:
            arguments.append("--check")  # builds everything and reads a batch, in a fifth of the time
    if name == "make_scenes.py":
        arguments = [*arguments, "--count", "10"]
    done = call_tool(f"../{script}", *arguments)
    return done.returncode, done.stdout + done.stderr


def is_used_later(arguments):
    """Whether anything in the pages names the run that a command trains."""
    run_dir = next((word.partition("=")[2] for word in arguments if word.startswith("run_dir=")), None)
    texts = ((DOCS / name).read_text(encoding="utf-8") for name in PAGES)
    return run_dir is not None and sum(text.count(run_dir) for text in texts) > 1


def run_python(block, names):
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec"), names)  # noqa: S102  (our own pages)
    return printed.getvalue()


def page_problems(page, call_tool):
    """Type a page from top to bottom; what did not go as it says."""
    problems, names, printed = [], {}, ""
    for block in blocks_of(page):
        if block.language == "text":
            shown = {line.strip() for line in printed.splitlines()}
            missing = [line for line in block.text.splitlines() if line.strip() not in shown]
            problems += [f"{block}: not printed: {line}; but: {printed[-600:]}" for line in missing]
        elif runnable(block) and block.language == "python":
            printed = run_python(block, names)
        elif runnable(block):
            printed = ""
            for words in block.commands:
                status, said = type_command(words, call_tool)
                printed += said
                if status:
                    problems.append(f"{block}: {' '.join(words)}: status {status}: {said[-400:]}")
    return problems


def test_your_own_data_and_what_is_done_with_its_run(desk, repository, call_tool):
    """The first page makes `runs/first` and `my_data`, which the second uses."""
    for name in TOGETHER:
        assert page_problems(repository / "docs" / name, call_tool) == []
    assert len(list((desk / "my_masks").glob("*.png"))) == 10
    assert len(list((desk / "my_masks" / "_overlay").glob("*.png"))) == 10


@pytest.mark.parametrize("name", [name for name in PAGES if name not in TOGETHER])
def test_a_page_does_what_it_says(name, desk, repository, call_tool):
    assert page_problems(repository / "docs" / name, call_tool) == []
