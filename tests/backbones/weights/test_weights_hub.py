"""Published weights come from a hub that the test runs itself: on time, cut off, wrong, or not at all."""

import hashlib
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file

from segzoo.backbones import build_backbone
from segzoo.backbones.weights import hub, published
from segzoo.backbones.weights.load import foreign_names
from segzoo.errors import ConfigError

WIDTH = 0.1
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Serves one file as the Hugging Face hub does.

    `cut` is how many bytes an answer ends after; `ranges` says whether a broken download may go on.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.stated = content, hashlib.sha256(content).hexdigest()
        self.cut, self.ranges, self.requests, self.status = None, True, [], 200

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        server = self.server
        server.requests.append((self.command, self.path))
        first = 0
        if server.ranges and self.headers.get("Range"):
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-").split("-")[0])
        body = server.content[first:]
        self.send_response(server.status if first == 0 else 206)
        self.send_header("ETag", f'"{server.stated}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        if with_body:
            self.wfile.write(body[: server.cut])
            if server.cut is not None:
                self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def state():
    network = build_backbone("xception", width=WIDTH)
    own = network.state_dict()
    return {theirs: own[ours].clone() for ours, theirs in foreign_names(network, "timm").built.items()}


@pytest.fixture
def fake_hub(state, tmp_path, monkeypatch, point_hub_to):
    save_file(state, tmp_path / "published.safetensors")
    server = FakeHub((tmp_path / "published.safetensors").read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_hub_to(server.url, tmp_path / "cache")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def nobody(tmp_path, point_hub_to):
    """A hub that does not answer."""
    point_hub_to("http://127.0.0.1:9", tmp_path / "cache")


def pretrained(tag="imagenet"):
    return build_backbone("xception", width=WIDTH, weights=tag)


def holds(network, state):
    return torch.equal(network.stem.conv1.weight, state["conv1.weight"])


def leftovers(tmp_path):
    """Files in the cache that could be taken for weights."""
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_download_progress_cache_and_offline(fake_hub, state, tmp_path, monkeypatch, capsys, point_hub_to):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # elsewhere the hub shows no bar
    assert holds(pretrained(), state)
    entry = published.PUBLISHED[0]
    file = f"/{entry.repository}/resolve/{entry.revision}/model.safetensors"
    assert [method for method, path in fake_hub.requests if path == file].count("GET") == 1
    assert "model.safetensors: 100%" in capsys.readouterr().err
    fake_hub.requests.clear()
    assert holds(pretrained("tf_in1k"), state)  # the same file, run as timm does
    point_hub_to("http://127.0.0.1:9", tmp_path / "cache")
    assert holds(pretrained(), state)
    assert fake_hub.requests == []


def test_offline_before(nobody, capsys):
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        pretrained()
    assert time.monotonic() - started < 10
    (problem,) = caught.value.problems
    assert problem.startswith("keras_in1k of xception: https://huggingface.co/smp-hub/xception.imagenet could not be")
    assert published.KERAS_URL in problem
    assert "weights: null" in problem
    assert "\n" not in problem


def test_a_wrong_checksum_is_deleted_and_the_next_try_is_fresh(fake_hub, state, tmp_path, monkeypatch):
    entry = replace(published.PUBLISHED[0], sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"has sha256 [0-9a-f]{64}, not 0{64}. It was deleted from the cache"):
        hub.fetch(entry)
    assert not any(path.name == "model.safetensors" for path in leftovers(tmp_path))
    right = hashlib.sha256(fake_hub.content).hexdigest()
    assert hub.fetch(replace(entry, sha256=right)).read_bytes() == fake_hub.content


def test_without_a_checksum_of_ours_the_hubs_own_counts(fake_hub):
    fake_hub.stated = "f" * 64
    with pytest.raises(ConfigError, match="not f{64}"):
        pretrained()


def test_a_cached_file_that_rotted(fake_hub, state):
    pretrained()
    file = hub.fetch(published.PUBLISHED[0])
    file.write_bytes(fake_hub.content[:-1] + b"x")
    with pytest.raises(ConfigError, match="deleted from the cache"):
        pretrained()
    assert holds(pretrained(), state)


def test_a_cut_off_download_goes_on(fake_hub, state, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 14)  # 10 MiB: this file is smaller
    fake_hub.cut = len(fake_hub.content) // 3
    assert holds(pretrained(), state)
    assert 3 <= [method for method, _ in fake_hub.requests].count("GET") <= 5


@pytest.mark.parametrize(("cut", "ranges"), [(1000, False), (0, True)])
def test_a_download_that_never_ends_is_given_up(fake_hub, tmp_path, cut, ranges):
    fake_hub.cut, fake_hub.ranges = cut, ranges
    with pytest.raises(ConfigError, match="could not be downloaded"):
        pretrained()
    assert [method for method, _ in fake_hub.requests].count("GET") < 12
    assert not any(path.name == "model.safetensors" for path in leftovers(tmp_path))


@pytest.mark.parametrize("status", [404, 500])
def test_a_hub_that_refuses(fake_hub, status):
    fake_hub.status = status
    with pytest.raises(ConfigError, match="could not be downloaded"):
        pretrained()
    assert len(fake_hub.requests) < 12


def test_the_tools_leave_with_2(nobody, call_tool):
    overrides = ("model.backbone.name=xception", "model.backbone.width=1", "model.backbone.weights=imagenet")
    result = call_tool("train.py", "configs/quickstart.yaml", "--check", *overrides)
    assert result.returncode == 2
    assert "could not be downloaded" in result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_nothing_is_asked_of_the_network_for_a_name(nobody, call_tool):
    """The resolved configuration needs the entry, not the file."""
    overrides = ("model.backbone.name=xception41p", "model.backbone.width=1", "model.backbone.weights=imagenet")
    result = call_tool("train.py", "configs/quickstart.yaml", "--print-config", *overrides)
    assert result.returncode == 0, result.stderr
    assert "norm_eps: 1e-05" in result.stdout


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("xception", "imagenett", "no such weights file, nor a published tag of xception. Did you mean imagenet?"),
        ("xception41", "ra3", "no such weights file, nor a published tag of xception41. Known: imagenet, tf_in1k."),
    ],
)
def test_unknown_tags(name, weights, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        build_backbone(name, width=WIDTH, weights=weights)


def test_the_table():
    entries = published.PUBLISHED
    assert len({(entry.backbone, entry.tag) for entry in entries}) == len(entries)
    assert published.IMAGENET not in {entry.tag for entry in entries}
    assert all(entry.sha256 is None or len(entry.sha256) == 64 for entry in entries)
    assert all(published.find_published(entry.backbone, "imagenet") is not None for entry in entries)


def test_the_table_is_timms():
    """Preprocessing and eps of every entry with timm's name, from timm itself."""
    timm = pytest.importorskip("timm")
    for entry in published.PUBLISHED:
        name = f"legacy_{entry.backbone}" if entry.backbone == "xception" else entry.backbone
        tag = "tf_in1k" if entry.tag == "keras_in1k" else entry.tag
        given = timm.models.get_pretrained_cfg(f"{name}.{tag}")
        assert given.mean == entry.recipe.mean
        assert given.std == entry.recipe.std
        assert entry.licence.lower() == ("mit" if entry.tag == "keras_in1k" else given.license)
        with torch.device("meta"):
            network = timm.create_model(name)
        norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
        assert norm.eps == (1e-5 if entry.tag == "keras_in1k" else entry.recipe.norm_eps)
