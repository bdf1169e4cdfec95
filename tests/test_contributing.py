"""What CONTRIBUTING.md shows is what happens: its parts train, its commands and folders exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import lightning
import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.training.build import build_data, build_task


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


def test_what_it_names_stands_in_the_file_that_it_names(page, repository):
    named = re.findall(r"`([\w.]+)`\s+\(`(?:segzoo/)?([\w/.]+\.py)`\)", page)
    assert len(named) >= 40
    for name, path in named:
        text = (repository / "segzoo" / path).read_text(encoding="utf-8")
        assert re.search(rf"\b{name.split('.')[-1]}\b", text), f"{name} in {path}"
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page):
        assert any((repository / place / path).is_file() for place in ("", "segzoo")), path


def steps_of(page, title):
    """The functions that a tour names, as (file below segzoo, qualified name), in order."""
    tour = page.split(title, 1)[1].split("\n\n", 2)[1]
    return [(path, name) for name, path in re.findall(r"`([\w.]+)`\s+\(`([\w/]+\.py)`\)", tour)]


def passed_by(run):
    """The functions of the package in the order in which they were first called."""
    package, seen = Path(segzoo.__file__).parent, {}

    def note(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(package):
            seen.setdefault((path.relative_to(package).as_posix(), frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return list(seen)


def test_an_image_in_training_passes_the_functions_of_the_tour_in_their_order(page, tmp_path, repository):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, shape, high in (("images", (64, 64, 3), 256), ("masks", (64, 64), 2)):
            folder = tmp_path / split / kind
            folder.mkdir(parents=True)
            for number in range(2):
                picture = Image.fromarray(generator.integers(0, high, shape, dtype=np.uint8))
                picture.save(folder / f"{number}.png")
    changes = ["data.name=folder", f"data.root={tmp_path}", "data.batch_size=2", "data.crop_size=64"]
    changes += ["data.num_workers=0", "data.classes=[a, b]", "data.augmentation.recipe=strong", "trainer.clip_norm=1"]
    changes += ["trainer.max_steps=1", "model.backbone.width=0.125", f"run_dir={tmp_path / 'run'}"]
    config = segzoo.load_config(repository / "configs" / "quickstart.yaml", changes)
    tour = steps_of(page, "The life of an image in training")
    assert len(tour) >= 12
    data = build_data(config)
    task = build_task(config, data, pretrained=False)
    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    passed = passed_by(lambda: trainer.fit(task, data))
    assert set(tour) <= set(passed), set(tour) - set(passed)
    places = [passed.index(step) for step in dict.fromkeys(tour)]
    assert places == sorted(places)
