"""A saved model, and a hub that the tests run themselves."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from segzoo.checkpoint.saved import save_model
from segzoo.training.train import TrainResult


@pytest.fixture(scope="session")
def saved(tiny_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run as a folder that anyone can use. Copy it before changing it."""
    return save_model(tiny_run.run_dir, tmp_path_factory.mktemp("saved") / "tiny")


class FakeHub(ThreadingHTTPServer):
    """Keeps repositories of small files, and speaks the few words of the Hugging Face hub that are spoken to it.

    `commits` has for each repository its commits, newest last, each a dictionary from path to content; `status` is
    what all requests are answered with, where it is not 200, and `seconds_a_byte` how slowly.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.created: list[dict] = []
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.status = 200
        self.seconds_a_byte = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, repository: str, folder: Path) -> None:
        """Make a commit of a folder's files."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.commits.setdefault(repository, []).append(files)

    @staticmethod
    def commit_name(repository: str, number: int) -> str:
        return hashlib.sha1(f"{repository} {number}".encode(), usedforsecurity=False).hexdigest()

    def fetched(self) -> set[str]:
        return {path.rsplit("/", 1)[-1] for method, path in self.requests if method == "GET" and "/resolve/" in path}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_HEAD(self) -> None:
        self._resolve(with_body=False)

    def do_GET(self) -> None:
        self._resolve(with_body=True)

    def do_POST(self) -> None:
        server, words = self.server, self.path.strip("/").split("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._note()
        if server.status != 200:
            self._answer(server.status, b"{}")
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            server.created.append(json.loads(body))
            name = f"{server.created[-1]['organization']}/{server.created[-1]['name']}"
            server.commits.setdefault(name, [])
            self._json({"url": f"{server.url}/{name}", "name": name, "id": name})
        elif words[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif words[4] == "commit":
            repository = "/".join(words[2:4])
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commits = server.commits[repository]
            commits.append((commits[-1] if commits else {}) | files)
            name = self.server.commit_name(repository, len(commits) - 1)
            self._json({"commitUrl": f"{server.url}/{repository}/commit/{name}", "commitOid": name})
        else:
            self._answer(404, b"{}")

    def _resolve(self, *, with_body: bool) -> None:
        self._note()
        if "/resolve/" not in self.path:
            self._answer(max(self.server.status, 404))
            return
        owner, name, _, revision, path = self.path.strip("/").split("/", 4)
        repository = f"{owner}/{name}"
        commits = {
            self.server.commit_name(repository, number): files
            for number, files in enumerate(self.server.commits.get(repository, []))
        }
        if self.server.status != 200:
            self._answer(self.server.status)
        elif not commits:
            self._answer(404, error="RepoNotFound")
        elif revision not in (*commits, "main"):
            self._answer(404, error="RevisionNotFound")
        else:
            commit = list(commits)[-1] if revision == "main" else revision
            if path not in commits[commit]:
                self._answer(404, error="EntryNotFound", commit=commit)
            else:
                self._answer(200, commits[commit][path], commit=commit, with_body=with_body)

    def _note(self) -> None:
        self.server.requests.append((self.command, self.path))
        self.server.tokens.add(self.headers.get("Authorization"))

    def _json(self, content: dict) -> None:
        self._answer(200, json.dumps(content).encode())

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        *,
        commit: str | None = None,
        error: str | None = None,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for part in map(bytes, zip(body, strict=False)) if self.server.seconds_a_byte else [body]:
            if not with_body or threading.Event().wait(self.server.seconds_a_byte):  # `time.sleep` does not, here
                break
            try:
                self.wfile.write(part)
            except OSError:  # the client has left
                break

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point_hub_to: Callable[[str, Path], None]):
    """An empty hub, with an empty cache in front of it."""
    server = FakeHub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_hub_to(server.url, tmp_path / "cache")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def unplug(hub: FakeHub, tmp_path: Path, point_hub_to: Callable[[str, Path], None]):
    """Call it, and the hub is out of reach; its cache stays."""
    return lambda: point_hub_to("http://127.0.0.1:9", tmp_path / "cache")
