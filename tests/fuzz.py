"""A fuzzer of configurations, of command lines and of damaged files; `make fuzz` runs it for twenty minutes.

Whatever it invents has to end in what a user can read: done, or an error of one line for each problem, with status 1 or
2; no traceback, no crash, no hang, and no more memory than an ordinary case takes. Every case follows from its kind and
its number alone: `python tests/fuzz.py --kind files --first 123 --count 1` repeats one. Cases run in this process's
child, one after the other, for starting a command takes seconds; a child that dies or hangs is a finding as well.
"""

import argparse
import io
import itertools
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

SECONDS, MEBIBYTES = 40, 1200
"""What a case may take at most; an ordinary one takes a second, and next to nothing."""

KINDS = ("configurations", "arguments", "files")

NUMBERS = (0, 1, -1, 2, 3, 7, 8, 16, 32, 64, 255, 256, 2**16, 2**31 - 1, 2**31, 2**63, 10**30, 0.0, -0.0, 0.5, 1e-9)
NUMBERS += (1e-300, 1e9, 1e38, 1e300, math.inf, -math.inf, math.nan)  # type: ignore[assignment]
TEXTS = ("", " ", ".", "..", "../..", "a/../b", "~", "*", "**", "[", "{", "%s", "a\0b", "\udce9", "\ud800", "写真", "-")
TEXTS += ("--", "--x", "=", "a=b", "x" * 300, "x/" * 3000, "9" * 5000, "1e300", "nan", "-1", "on", "null", "\n", "=1+1")
TEXTS += (
    "[/x]",
    "<b>",
    "C:\\x",
    "/dev/null",
    "/proc/self/mem",
    "loop",
    "nosuch",
    "auto",
    "cpu",
    "cuda:99",
    "0/0",
    "1/2",
)
TEXTS += ("!!int x", "&a [*a]", "2001-99-99", "[" * 500, "{a: " * 500)
TINY = {
    "data": {"name": "folder", "root": "set", "batch_size": 2, "crop_size": 33, "num_workers": 0},
    "model": {"decoder": "unet", "output_stride": 32, "backbone": {"name": "xception", "width": 0.1}},
    "trainer": {"max_steps": 1, "progress": False, "accelerator": "cpu", "overlay_images": 0},
}
TINY_CLASSIFIER = {
    "task": "classification",
    "data": {"name": "image_folder", "root": "classes", "batch_size": 2, "image_size": 33, "num_workers": 0},
    "model": {"backbone": {"name": "xception", "width": 0.1}},
    "trainer": {"max_steps": 1, "progress": False, "accelerator": "cpu"},
}


class Fault(Exception):
    """What a user must never see."""


# --- what a case is -------------------------------------------------------------------------------------------------


def configurations(chance: random.Random) -> None:
    """Some keys of a small run get other values; what is accepted is written and read back, small runs are built."""
    from segzoo.config.load import config_from_tree, dump_config, load_config
    from segzoo.tasks.names import known_names
    from segzoo.training.train import check

    tree = json.loads(json.dumps(chance.choice((TINY, TINY_CLASSIFIER))))
    values, keys = [], _keys(tree.get("task", "segmentation"))
    for _ in range(chance.randint(1, 4)):
        key, schema = chance.choice(keys)
        values.append((key, _value(schema, chance)))
        _set(tree, *values[-1])
    as_file = chance.random() < 0.3
    try:
        config = config_from_tree(tree, known_names=known_names())
        if as_file:
            Path("fuzzed.yaml").write_text(dump_config(config), encoding="utf-8")
            if load_config("fuzzed.yaml") != config:
                raise Fault("what was written is read back as something else")
        if all(_is_small(value, 1 if key.endswith("width") else 64) for key, value in values):
            check(config)
    except Exception as error:
        _refuse_unless_told(error)


def arguments(chance: random.Random) -> None:
    """A command with its own options and words, sensible ones and others."""
    from segzoo.commands import COMMANDS, call

    name = chance.choice(sorted(COMMANDS))
    words = [_word(chance) for _ in range(chance.randint(0, 3))]
    for option in chance.sample(_options(name), min(len(_options(name)), chance.randint(0, 3))):
        words += [option, _word(chance)] if chance.random() < 0.7 else [f"{option}={_word(chance)}"]
    if chance.random() < 0.5:
        words = [*chance.sample(_SENSIBLE.get(name, [[]]), 1)[0], *words]
    if name in ("quickstart",):
        words.append("nosuch.key=1")  # or a sensible line would run for minutes
    if name == "train":
        words.append("--check")
    if name == "find-lr":
        words += ["--steps", "2"]
    words = [word for word in words if _can_be_typed(word)]
    _command(lambda: call(name, words), words)


def _can_be_typed(word: str) -> bool:
    """Whether a system hands a command such a word: zero bytes and half characters never reach one."""
    return "\0" not in word and not any("\ud800" <= sign <= "\udc7f" or "\udd00" <= sign <= "\udfff" for sign in word)


def files(chance: random.Random) -> None:
    """A file of a kind that segzoo reads, with some bytes changed."""
    from segzoo.commands import call

    original, use = chance.choice(_FILES)
    folder = Path(tempfile.mkdtemp(dir="."))
    try:
        target = folder / original.name
        target.write_bytes(_damaged(original.read_bytes(), chance))
        words = [word.replace("FOLDER", str(folder)).replace("FILE", str(target)) for word in use]
        for beside in original.parent.iterdir():
            if beside != original and original.parent.name == "beside":
                shutil.copy(beside, folder)
        _command(lambda: call(words[0], words[1:]), words)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_CASES: dict[str, Callable[[random.Random], None]] = {
    "configurations": configurations,
    "arguments": arguments,
    "files": files,
}
_SENSIBLE = {
    "make-config": [["set"], ["classes"], ["set", "--output", "made.yaml"]],
    "check-data": [["tiny.yaml"], ["classes.yaml"], ["tiny.yaml", "data.root=nosuch"]],
    "browse-data": [["tiny.yaml"], ["tiny.yaml", "--count", "1"]],
    "find-lr": [["tiny.yaml"]],
    "train": [["tiny.yaml"], ["--resume", "run"], ["classes.yaml"], ["tiny.yaml", "--print-config"]],
    "evaluate": [["run"], ["run/checkpoints/last.ckpt", "--split", "train"], ["saved", "data.root=set"]],
    "compare": [["run", "run"], ["run", "nosuch"]],
    "predict": [["run", "set/images"], ["saved", "set/images/0.png"], ["run", "set/**/*.png"], ["run", "list.txt"]],
    "export": [["run", "--format", "torch"], ["run", "--format", "safetensors", "--output", "exported"]],
    "model": [["tiny.yaml"], ["tiny.yaml", "--size", "64", "64"]],
    "backbones": [["xception"], ["--weights"], ["xception", "--size", "64", "64"]],
    "convert-weights": [["run", "converted.safetensors"], ["list.txt", "converted.safetensors"]],
    "prepare-data": [["voc", "--archive", "list.txt"], ["cifar10", "--archive", "some.tar"]],
}
_FILES: list[tuple[Path, list[str]]] = []


# --- how a case is judged -------------------------------------------------------------------------------------------


def _command(run: Callable[[], int], words: list[str]) -> None:
    """Run a command as its process would, and look at how it ends."""
    from segzoo.cli import run as run_command

    shown, said = (io.TextIOWrapper(io.BytesIO(), "cp1252", write_through=True) for _ in range(2))
    try:
        sys.argv[1:] = words
        with redirect_stdout(shown), redirect_stderr(said):
            run_command(run)
    except SystemExit as left:
        if left.code not in (0, 1, 2):
            raise Fault(f"status {left.code}") from None
        lines = said.buffer.getvalue().decode("cp1252").splitlines()
        if left.code and not lines and not shown.buffer.getvalue():
            raise Fault(f"status {left.code} without a word") from None
        errors = [line for line in lines if line.startswith("error:")]
        if len(errors) > 60:
            raise Fault(f"{len(errors)} lines of errors, such as {errors[-1]}") from None


def _refuse_unless_told(error: Exception) -> None:
    from segzoo.errors import SegzooError

    if not isinstance(error, SegzooError) or not error.problems:
        raise error
    if len(error.problems) > 40 or max(map(len, error.problems)) > 3000:
        raise Fault(f"{len(error.problems)} lines, the longest of {max(map(len, error.problems))} letters")


# --- what is invented -----------------------------------------------------------------------------------------------


def _keys(task: str) -> list[tuple[str, dict[str, Any]]]:
    """Every key of a task with its schema."""
    from segzoo.config.explain import SCHEMA_FILE
    from segzoo.config.load import SCHEMAS

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))

    def below(name: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, value in schema["definitions"][name]["properties"].items():
            yield prefix + key, value
            if "allOf" in value:
                yield from below(value["allOf"][0]["$ref"].rpartition("/")[2], f"{prefix}{key}.")

    return list(below(SCHEMAS[task].__name__, ""))


def _value(schema: dict[str, Any], chance: random.Random, depth: int = 0) -> Any:
    """A value that a schema allows, one at its bounds, or anything."""
    if chance.random() < 0.25:
        return _anything(chance, depth)
    if "anyOf" in schema:
        return _value(chance.choice(schema["anyOf"]), chance, depth)
    if "enum" in schema or "const" in schema:
        return chance.choice(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 100))
        near = chance.choice((low, high, low + 1, min(high, low + chance.randint(0, 40)), high + 1, low - 1))
        return int(near) if kind == "integer" else float(near)
    if kind == "array":
        count = chance.choice((schema.get("minItems", 1), schema.get("maxItems", 3), chance.randint(0, 4)))
        return [_value(schema.get("items", {}), chance, depth + 1) for _ in range(min(count, 20))]
    if kind == "object":
        return {
            chance.choice(("a", "b", "square")): _value(schema.get("additionalProperties") or {}, chance, depth + 1)
        }
    if kind == "string":
        return chance.choice((*schema.get("examples", ("train", "val", "images")), *TEXTS))
    return chance.choice((True, False, None)) if kind != "boolean" else chance.random() < 0.5


def _anything(chance: random.Random, depth: int) -> Any:
    pool: list[Any] = [None, True, *NUMBERS, *TEXTS, [], {}, ["a"], {"a": 1}, {1: 2}, {None: []}]
    if depth < 3 and chance.random() < 0.2:
        return [_anything(chance, depth + 1) for _ in range(chance.randint(0, 5))]
    return chance.choice(pool)


def _is_small(value: Any, most: int) -> bool:
    """Whether a run with this value takes no more than seconds."""
    if isinstance(value, dict | list):
        return all(_is_small(item, most) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) <= most)


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        below = tree.get(section)
        tree[section] = tree = below if isinstance(below, dict) else {}
    tree[last] = value


def _word(chance: random.Random) -> str:
    if chance.random() < 0.3:
        key, schema = chance.choice(_keys(chance.choice(("segmentation", "classification"))))
        return f"{key}={_value(schema, chance)}"
    here = (
        "set",
        "set/images",
        "set/images/0.png",
        "run",
        "saved",
        "tiny.yaml",
        "list.txt",
        "classes",
        "some.tar",
        "loop",
    )
    return str(chance.choice((*TEXTS, *NUMBERS, *here)))


def _options(name: str) -> list[str]:
    """The options that a command's help names."""
    if name not in _OPTIONS:
        from segzoo.commands import call

        shown = io.StringIO()
        try:
            with redirect_stdout(shown):
                call(name, ["--help"])
        except SystemExit:
            pass
        usage = shown.getvalue().partition("\n\n")[0]
        _OPTIONS[name] = sorted({word.strip("[]|") for word in usage.split() if word.startswith(("[--", "--"))})
    return _OPTIONS[name]


_OPTIONS: dict[str, list[str]] = {}


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with a few of its bytes changed, moved, lost or added; most often near its beginning."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        reach = chance.choice((min(len(data), 64), min(len(data), 1024), len(data)))
        place, length = chance.randrange(max(reach, 1)), chance.choice((1, 2, 4, 8, 64, 512))
        match chance.randrange(6):
            case 0:
                data[place : place + length] = chance.randbytes(len(data[place : place + length]))
            case 1:
                data[place : place + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"9")) * length
            case 2:
                del data[place:]
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[:length] * chance.choice((1, 100))
            case 5 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
    return bytes(data)


# --- what it works on -----------------------------------------------------------------------------------------------


def _prepare() -> None:
    """Small files of every kind in the working folder, and a run."""
    import numpy as np
    from PIL import Image

    from segzoo.checkpoint.saved import save_model
    from segzoo.config.load import load_config
    from segzoo.training.train import train

    generator = np.random.default_rng(0)
    for folder in ("set/images", "set/masks", "classes/train/a", "classes/train/b", "classes/val/a", "classes/val/b"):
        Path(folder).mkdir(parents=True)
        for number in range(6):
            pixels = (
                generator.integers(0, 2, (40, 48)) if "masks" in folder else generator.integers(0, 255, (40, 48, 3))
            )
            Image.fromarray(pixels.astype(np.uint8)).save(f"{folder}/{number}.png")
    Path("loop").symlink_to("loop")
    Path("tiny.yaml").write_text(json.dumps(TINY))
    Path("classes.yaml").write_text(json.dumps(TINY_CLASSIFIER))
    Path("list.txt").write_text("set/images/0.png\nset/images/1.png\n")
    train(load_config(TINY, ["run_dir=run"]))
    save_model("run", "saved")
    _gather(generator)


def _gather(generator: Any) -> None:
    """The files that are damaged, each with the command that reads it; those of a folder `beside` go with others."""
    import h5py
    import numpy as np
    import tifffile
    from PIL import Image

    beside = Path("originals/beside")
    shutil.copytree("saved", beside)
    plain = Path("originals")
    pixels = generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(plain / "a.png")
    Image.fromarray(pixels).save(plain / "a.jpg")
    Image.fromarray(pixels).convert("P").save(plain / "a.gif")
    tifffile.imwrite(plain / "a.tif", pixels, compression="deflate", tile=(16, 16))
    shutil.copy("run/checkpoints/last.ckpt", plain)
    with h5py.File(plain / "weights.h5", "w") as file:
        for name in ("block1_conv1", "block1_conv2", "predictions"):
            file[f"{name}/{name}/kernel:0"] = generator.random((3, 3, 3, 8), np.float32)
        file.attrs["layer_names"] = [b"block1_conv1", b"block1_conv2", b"predictions"]
    with zipfile.ZipFile(plain / "weights.keras", "w") as archive:
        archive.write(plain / "weights.h5", "model.weights.h5")
        archive.writestr("config.json", '{"class_name": "Functional"}')
        archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
    for name, mode in (("some.tar", "w"), ("some.tgz", "w:gz")):
        with tarfile.open(plain / name, mode) as archive:  # type: ignore[call-overload]
            archive.add("set/images", "VOCdevkit/VOC2012/JPEGImages")
    shutil.copy(plain / "some.tar", "some.tar")
    with zipfile.ZipFile(plain / "camvid.zip", "w") as archive:
        archive.write("set/images/0.png", "SegNet/CamVid/train/0.png")
    Path(plain, "c.yaml").write_text(Path("run/config.yaml").read_text())
    shutil.copytree("set", "lists")
    Path(plain, "train.txt").write_text("0\n1\n2\n3\n")
    _FILES.extend(
        [
            *(
                (plain / f"a.{kind}", ["predict", "run", "FOLDER", "--output", "FOLDER/out"])
                for kind in ("png", "jpg", "gif", "tif")
            ),
            *((plain / f"a.{kind}", ["make-config", "FOLDER", "--output", "FOLDER/c.yaml"]) for kind in ("png", "tif")),
            (plain / "last.ckpt", ["predict", "FILE", "set/images/0.png", "--output", "FOLDER/out"]),
            (plain / "last.ckpt", ["evaluate", "FILE", "--output", "FOLDER/out", "--no-report"]),
            (beside / "model.safetensors", ["predict", "FOLDER", "set/images/0.png", "--output", "FOLDER/out"]),
            (beside / "config.json", ["predict", "FOLDER", "set/images/0.png", "--output", "FOLDER/out"]),
            (plain / "weights.h5", ["convert-weights", "FILE", "FOLDER/out.safetensors"]),
            (plain / "weights.keras", ["convert-weights", "FILE", "FOLDER/out.safetensors"]),
            (plain / "c.yaml", ["train", "FILE", "--print-config"]),
            (plain / "c.yaml", ["check-data", "FILE", "--output", "FOLDER"]),
            (plain / "some.tar", ["prepare-data", "voc", "--root", "FOLDER", "--archive", "FILE"]),
            (plain / "some.tgz", ["prepare-data", "cifar10", "--root", "FOLDER", "--archive", "FILE"]),
            (plain / "camvid.zip", ["prepare-data", "camvid", "--root", "FOLDER", "--archive", "FILE"]),
            (plain / "train.txt", ["predict", "run", "FILE", "--output", "FOLDER/out"]),
        ]
    )


_connect = socket.socket.connect


def _no_network(*_: object, **__: object) -> Any:
    raise OSError("the fuzzer has no network")


def _connect_here(own: socket.socket, address: Any) -> None:
    """Among the processes of this machine, as data processes do."""
    if own.family != socket.AF_UNIX:
        _no_network()
    _connect(own, address)


# --- running --------------------------------------------------------------------------------------------------------


def work(kind: str, numbers: Iterator[int], folder: Path, *, tell: Callable[[str], None]) -> None:
    """Run cases in this process, in a folder of their own; each is told before it runs, and each finding."""
    socket.socket.connect = _connect_here  # type: ignore[assignment, method-assign]
    socket.getaddrinfo = _no_network
    inner = folder / "some" / "where"  # so that `..` is ours, too
    inner.mkdir(parents=True)
    os.chdir(inner)
    _prepare()
    allowed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        tell(f"case {number}")
        try:
            _CASES[kind](random.Random(f"{kind} {number}"))
        except BaseException as error:  # a SystemExit or KeyboardInterrupt of the code under test, too
            last = "".join(traceback.format_exception(error)[-4:])
            tell(f"finding {json.dumps(f'{kind} {number}: {type(error).__name__}: {error}'[:400] + chr(10) + last)}")
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if used > allowed + MEBIBYTES * 1024:
            tell(f"finding {json.dumps(f'{kind} {number}: {(used - allowed) >> 10} MiB')}")
        allowed = max(allowed, used)
    tell("end")


def hunt(kind: str, first: int, count: int | None, until: float) -> list[str]:
    """Findings among the cases of a kind from `first` on; each child that dies or hangs is followed by another."""
    findings: list[str] = []
    last = math.inf if count is None else first + count
    number = first
    while number < last and time.monotonic() < until:
        words = ["--kind", kind, "--first", str(number), "--work"]
        words += [] if count is None else ["--count", str(int(last - number))]
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            child = subprocess.Popen(
                [sys.executable, __file__, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            done, told = _follow(child, until)
        findings += told
        if done is None:
            raise SystemExit("the fuzzer itself does not start; --work shows why")
        number = done + 1
    sys.stdout.write(f"{kind}: {number - first} cases, {len(findings)} findings\n")
    return findings


def _follow(child: "subprocess.Popen[bytes]", until: float) -> tuple[int | None, list[str]]:
    """What a child tells until it ends or hangs, or the time is up: its last case, if it had one, and its findings."""
    findings: list[str] = []
    number, ending = None, "the process died"
    for line in _lines(child, until):
        word, _, rest = line.partition(" ")
        if word == "case":
            number = int(rest)
        elif word == "finding":
            findings.append(json.loads(rest))
        else:
            ending = "" if word == "end" else line
    child.kill()
    child.wait()
    return number, [*findings, *([f"case {number}: {ending}"] if ending and number is not None else [])]


def _lines(child: "subprocess.Popen[bytes]", until: float) -> Iterator[str]:
    """What a child writes, line by line; then `end` where the time is up, or that it hangs."""
    buffer, patience, stream = b"", 300, child.stdout
    while stream is not None:
        if time.monotonic() > until:
            yield "end"
            return
        if not select.select([stream], [], [], patience)[0]:
            yield f"hangs for more than {patience} s"
            return
        read = os.read(stream.fileno(), 65536)
        if not read:
            return
        *lines, buffer = (buffer + read).split(b"\n")
        yield from (line.decode() for line in lines)
        patience = SECONDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="in all (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, help="one kind only")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: %(default)s)")
    parser.add_argument("--count", type=int, help="so many cases, however long they take")
    parser.add_argument("--work", action="store_true", help="in this process, in the working folder")
    options = parser.parse_args()
    if options.work:
        told = os.fdopen(os.dup(1), "w", buffering=1)
        numbers = itertools.count(options.first)
        work(
            options.kind,
            numbers if options.count is None else itertools.islice(numbers, options.count),
            Path.cwd() / "fuzz",
            tell=lambda line: told.write(f"{line}\n") and None,
        )
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds = [options.kind] if options.kind else list(KINDS)
    findings = []
    for kind in kinds:
        share = math.inf if options.count else time.monotonic() + 60 * options.minutes / len(kinds)
        findings += hunt(kind, options.first, options.count, share)
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
