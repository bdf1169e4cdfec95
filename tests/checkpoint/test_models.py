"""Published models by name, from a server that the test runs itself: fetched once, cut off, wrong, or not at all."""

import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segzoo
from segzoo.checkpoint.deeplab import Protocol
from segzoo.checkpoint.read import load_published
from segzoo.errors import CheckpointError, ConfigError

VOC = "deeplabv3_pascal_train_aug_2018_01_04.tar.gz"
IMAGENET = "xception_41_2018_05_09.tar.gz"
SMALL = ("model.backbone.width=0.0625", "model.deeplab.aspp_channels=32", "model.deeplab.decoder_channels=32")


class Server(ThreadingHTTPServer):
    """Has files by name; ends a connection after `cut` bytes, where that is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None

    def handle_error(self, *_: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name, wanted = self.path.removeprefix("/mirror/"), self.headers.get("Range")
        self.server.asked.append((name, wanted))
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


def packed(oracle: Path, folder: Path) -> bytes:
    """As the archives are: one folder, with the checkpoint and at times a frozen graph."""
    archive = folder / "packed.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for file in sorted(oracle.iterdir()):
            if file.suffix != ".npz":
                opened.add(file, f"{oracle.name}_2018/{file.name}")
    return archive.read_bytes()


@pytest.fixture(scope="module")
def archives(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    oracles, folder = shared / "oracles" / "tf_deeplab", tmp_path_factory.mktemp("packed")
    return {VOC: packed(oracles / "xception65", folder), IMAGENET: packed(oracles / "xception41_imagenet", folder)}


@pytest.fixture
def server(archives: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    server.files = dict(archives)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SEGZOO_MODELS_URL", f"http://127.0.0.1:{server.server_port}/mirror/")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between connections
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, as HF_ASSETS_CACHE names it in a process of its own; and the working folder has nothing else."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "assets" / "segzoo" / "deeplab"


def photograph(folder: Path, oracles: Path) -> np.ndarray:
    image: np.ndarray = np.load(oracles / "xception65" / "os16_129x129.npz")["image"]
    folder.mkdir()
    Image.fromarray(image).save(folder / "a.png")
    return image


def test_downloaded_once_and_what_the_archive_itself_gives(server: Server, cache: Path, shared: Path, tmp_path: Path):
    oracles = shared / "oracles" / "tf_deeplab"
    image = photograph(tmp_path / "photos", oracles)
    first = segzoo.Predictor("deeplab/xception65-voc")(image)
    segzoo.predict("deeplab/xception65-voc", tmp_path / "photos", output=tmp_path / "out")
    assert server.asked == [(VOC, None)]
    mask = np.array(Image.open(tmp_path / "out" / "a.png"))
    original = segzoo.Predictor(load_published(oracles / "xception65", Protocol()))(image)
    np.testing.assert_array_equal(first.mask, original.mask)
    np.testing.assert_array_equal(mask, original.mask)
    card = (cache / "xception65-voc" / "README.md").read_text().replace("\\", "")
    assert 'segzoo.Predictor("deeplab/xception65-voc")' in card
    assert f"published as {VOC}, converted and trained no further. Licence: Apache-2.0." in card


def test_cached_it_needs_no_network(server: Server, monkeypatch: pytest.MonkeyPatch):
    before = segzoo.load_segmenter("deeplab/xception65-voc").segmenter.state_dict()
    server.files.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    after = segzoo.load_segmenter("deeplab/xception65-voc").segmenter.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert len(server.asked) == 1


def test_cut_off_and_gone_on_with(server: Server, cache: Path, archives: dict[str, bytes]):
    """Connections that bring less than all are followed by others, and by another command."""
    size = len(archives[VOC])
    server.cut = size // 2
    with pytest.raises(
        ConfigError, match=r"could not be downloaded .* goes on from what has come when it is run again"
    ):
        segzoo.load_segmenter("deeplab/xception65-voc")
    assert (cache / f"{VOC}.part").stat().st_size == size // 2
    server.cut = None
    segzoo.load_segmenter("deeplab/xception65-voc")
    assert server.asked[-1] == (VOC, f"bytes={size // 2}-")
    assert (cache / VOC).read_bytes() == archives[VOC]


def test_wrong_content_is_not_kept(
    server: Server, cache: Path, archives: dict[str, bytes], shared: Path, tmp_path: Path
):
    """A page, a part of the archive, and one with a wrong bit in a variable."""
    copy = shutil.copytree(shared / "oracles" / "tf_deeplab" / "xception65", tmp_path / "copy")
    data = copy / "model.ckpt.data-00000-of-00001"
    numbers = bytearray(data.read_bytes())
    numbers[len(numbers) // 2] ^= 1
    data.write_bytes(numbers)
    for content, reason in (
        (b"<html>sign in</html>", "cut off or something else"),
        (archives[VOC][:-5000], "ended before"),
        (packed(copy, tmp_path), "the checksum of .* does not agree"),
    ):
        server.files[VOC] = content
        with pytest.raises(ConfigError, match=rf"^deeplab/xception65-voc: http\S+ could not .*{reason}") as raised:
            segzoo.load_segmenter("deeplab/xception65-voc")
        assert "what came was deleted" in str(raised.value)
        assert [file.name for file in cache.iterdir() if not file.name.startswith(".")] == []
    server.files[VOC] = archives[VOC]
    segzoo.load_segmenter("deeplab/xception65-voc")


def test_fetched_by_hand(server: Server, cache: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    """Without a network one line says the address and the place; a file there is read, a wrong one refused by name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError) as offline:
        segzoo.load_segmenter("deeplab/xception65-voc")
    assert len(offline.value.problems) == 1
    url = f"{os.environ['SEGZOO_MODELS_URL']}{VOC}"
    assert f"{url} could not be downloaded (HF_HUB_OFFLINE is set)" in offline.value.problems[0]
    assert f"Fetched elsewhere, it belongs at {cache / VOC};" in offline.value.problems[0]
    (cache / VOC).write_bytes(archives[VOC][:5000])
    with pytest.raises(CheckpointError, match=VOC):
        segzoo.load_segmenter("deeplab/xception65-voc")
    (cache / VOC).write_bytes(archives[VOC])
    assert segzoo.load_segmenter("deeplab/xception65-voc").labels.num_classes == 21
    assert server.asked == []


def test_exit_statuses_and_lines(server: Server, cache: Path, call_tool: Callable[..., Any], tmp_path: Path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "a.png")
    server.files.clear()
    lines = {
        "deeplab/xception65-voc": "could not be downloaded (HTTP status 404 (Not Found)). Fetched elsewhere, it",
        "deeplab/xception65-vok": "unknown model 'deeplab/xception65-vok'. Did you mean deeplab/xception65-voc?",
        "deeplab/xception41-imagenet": "a backbone, which may start a segmenter: model.backbone.weights=deeplab/xcep",
    }
    for name, line in lines.items():
        result = call_tool("predict.py", name, tmp_path / "photos", "--output", tmp_path / "out")
        assert result.returncode == 2
        assert line in result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_that_name_comes_first(server: Server, tmp_path: Path, archives: dict[str, bytes], shared: Path):
    source = shared / "oracles" / "tf_deeplab" / "xception71_dpc"
    shutil.copytree(source, tmp_path / "deeplab" / "xception65-voc")
    assert segzoo.load_segmenter("deeplab/xception65-voc").labels.num_classes == 19
    with pytest.raises(ConfigError, match="no such checkpoint"):
        segzoo.load_segmenter("deeplab/something")
    assert server.asked == []


def test_a_run_starts_from_one(server: Server, tiny_config: Callable[..., Any], tmp_path: Path, caplog: Any):
    """From a whole network, its backbone, and a backbone that has nothing behind it; each file is fetched once."""
    own = ("model.decoder=deeplabv3plus", *SMALL, "trainer.max_steps=1", "trainer.val_every_steps=1")
    for number, (key, name, backbone) in enumerate(
        (
            ("model.weights", "deeplab/xception65-voc", "xception65"),
            ("model.backbone.weights", "deeplab/xception65-voc", "xception65"),
            ("model.backbone.weights", "deeplab/xception41-imagenet", "xception41"),
        )
    ):
        caplog.clear()
        with caplog.at_level("INFO", "segzoo"):
            run = segzoo.train(
                tiny_config(
                    f"{key}={name}", f"model.backbone.name={backbone}", f"run_dir={tmp_path / str(number)}", *own
                )
            )
        assert " tensors" in caplog.text
        assert f"weights: {name}" in (run.run_dir / "config.yaml").read_text()
    assert server.asked == [(VOC, None), (IMAGENET, None)]


def test_the_table(call_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEGZOO_MODELS_URL", raising=False)
    found = json.loads(call_tool("models.py", "--json").stdout)
    assert len({model["name"] for model in found}) == len({model["url"] for model in found}) == 10
    assert all(model["url"].startswith("http://download.tensorflow.org/models/") for model in found)
    shown = call_tool("models.py").stdout
    assert all(f"{model['name']}\n" in shown and model["miou"] in shown for model in found)
    page = (Path(segzoo.__file__).parents[1] / "docs" / "published_models.md").read_text()
    for model in found:
        assert f"`{model['name']}`" in page, model["name"]
        assert model["archive"] in page
