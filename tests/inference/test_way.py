"""The way of one image from `segzoo predict` to its PNG: few modules, none of which is entered again from below."""

import re
import sys
import threading
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.commands import predict
from segzoo.inference.jobs import Job, Listing, Result
from segzoo.inference.runner import Loaded

PACKAGE = Path(segzoo.__file__).parent

ROOMS = {
    "commands/predict.py": ["main"],
    "inference/predict.py": ["predict"],
    "inference/jobs.py": ["find_images", "output_names", "check_jobs"],
    "inference/heads.py": ["plan", "cost", "read", "predict", "write"],
    "inference/outputs.py": ["output_paths", "write_outputs"],
    "inference/record.py": ["jobs_to_do"],
    "inference/runner.py": ["run_jobs", "batches", "read_ahead", "one_by_one"],
    "inference/predictor.py": ["seen", "predict", "scores"],
}
"""The modules of prediction that an image passes, as they are first entered, and what each does with it."""

BELOW = {
    "data/cores.py",
    "data/pictures.py",
    "data/reading/pixels.py",
    "data/reading/tree.py",
    "data/sample.py",
    "data/reading/arrays.py",
    "data/reading/masks.py",
    "data/reading/tiff.py",
    "data/reading/images.py",
    "data/reading/coding.py",
    "checkpoint/read.py",
    "files.py",
    "errors.py",
}
"""Modules that these call to list, read, draw and write files, and to ask the network for its decoder."""

COMPUTING = ("inference/engines", "models/", "backbones/", "cpu/")
"""The engine and the network, which see a tensor; what these call is theirs."""


class Trace:
    """The stacks of modules in which functions got to do with one image, until its PNG is there.

    A call has to do with it if it, or a call above it, was given the image's path, its job, or what was read for it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stacks: list[list[tuple[str, str]]] = []
        self.is_over = False

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or self.is_over or not _module(frame):
            return
        code = frame.f_code
        if code.co_name == "add" and self._is_given(frame):
            self.is_over = True
            return
        stack = _stack(frame)
        if any(self._is_given(one) for one in stack):
            calls = [(_module(one), one.f_code.co_name) for one in reversed(stack)]
            self.stacks.append(list(takewhile(lambda call: not call[0].startswith(COMPUTING), calls)))

    def _is_given(self, frame: FrameType) -> bool:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return any(self._is_about(frame.f_locals.get(name)) for name in names if name != "self")

    def _is_about(self, value: Any) -> bool:
        if isinstance(value, str | Path):
            return Path(value).stem == self.name
        if isinstance(value, list | tuple):
            return any(map(self._is_about, value[:4]))
        if isinstance(value, Job | Loaded | Result | Listing):
            return any(self._is_about(getattr(value, name, None)) for name in ("image", "item", "job", "images"))
        return False


def _module(frame: FrameType) -> str:
    """A module of the package; empty for others, and while a module is imported."""
    return "" if frame.f_code.co_name == "<module>" else _inside(frame.f_code.co_filename)


@cache
def _inside(file: str) -> str:
    return Path(file).relative_to(PACKAGE).as_posix() if Path(file).is_relative_to(PACKAGE) else ""


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of the package that a call was made from, itself first."""
    found = []
    while frame is not None:
        if _module(frame):
            found.append(frame)
        frame = frame.f_back
    return found


@pytest.fixture(scope="module")
def trace(tiny_run, tmp_path_factory) -> Trace:
    folder = tmp_path_factory.mktemp("way")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "traced.jpg")
    words = [str(tiny_run.run_dir), str(folder / "images"), "--output"]
    assert predict.main([*words, str(folder / "before")]) == 0  # what is done once in a process
    traced = Trace("traced")
    before = sys.getprofile()
    threading.setprofile(traced)
    sys.setprofile(traced)
    try:
        assert predict.main([*words, str(folder / "out")]) == 0
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    assert (folder / "out" / "traced.png").is_file()
    return traced


def test_an_image_passes_eight_modules_of_prediction(trace: Trace) -> None:
    calls = [call for stack in trace.stacks for call in stack]
    modules = list(dict.fromkeys(module for module, _ in calls))
    rooms = [module for module in modules if module.startswith(("commands/", "inference/"))]
    assert rooms == list(ROOMS)
    assert len(rooms) <= 8
    for module, functions in ROOMS.items():
        names = [name for place, name in dict.fromkeys(calls) if place == module and name in functions]
        assert names == functions, module
    assert set(modules) - set(rooms) == BELOW


def test_no_module_is_entered_again_from_below(trace: Trace) -> None:
    for stack in trace.stacks:
        modules = [module for module, _ in stack]
        entered = [module for before, module in zip(["", *modules], modules, strict=False) if module != before]
        assert len(entered) == len(set(entered)), entered


def test_the_tour_names_what_an_image_passes(repository: Path) -> None:
    page = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tour = page[page.index("### The life of an image in prediction") :]
    tour = tour[: tour.index("\n#", 5)]
    named = re.findall(r"`((?:commands|inference)/\w+\.py)`", tour)
    assert list(dict.fromkeys(named)) == [*ROOMS, "inference/sinks.py"]
    for functions in ROOMS.values():
        for function in functions:
            assert f"{function}`" in tour, function
