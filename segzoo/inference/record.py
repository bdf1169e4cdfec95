"""What has been done in a folder of predictions, and by which network: written while it is done.

Each process appends to a file of its own, done.jsonl, or done_0_of_4.jsonl of a shard. Together these files say what
the whole folder holds, so that a run that was killed can go on, and no folder gets the outputs of two networks.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import torch

from segzoo.checkpoint.read import AnyTrained
from segzoo.errors import ConfigError, printable
from segzoo.files import flush_folder, open_own, remove_leftovers, write_atomically
from segzoo.inference.jobs import Content, Job, Result, Shard

FAILED = "failed.json"

_NAME = re.compile(r"done(_\d+_of_\d+)?\.jsonl")


@dataclass(frozen=True)
class Maker:
    """What makes the outputs.

    Args:
        network: a digest of the weights and of all that decides what they say of an image.
        checkpoint: where it was read.
        settings: how it computes, which may change from one part of the images to the next.
    """

    network: str
    checkpoint: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, source: AnyTrained, settings: Mapping[str, Any]) -> Self:
        """A network with settings. Where it was read, and what its training began with, play no part in the digest."""
        model = source.config.model.model_dump(
            mode="json", exclude={"weights": True, "backbone": {"weights": True}}, exclude_defaults=True
        )
        seen = {"channels", "value_range", "preprocessing", "image_size", "center_crop"}
        data = source.config.data.model_dump(mode="json", include=seen)
        labels = source.labels
        described = {"model": model, "data": data, "classes": labels.names, "multi_label": labels.multi_label}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        for name, tensor in sorted(source.network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return cls(digest.hexdigest(), printable(source.path), settings)

    def __str__(self) -> str:
        return f"{printable(self.checkpoint)} (network {self.network[:8]})"


@dataclass(frozen=True)
class Entry:
    """What became of an image.

    Args:
        maker: what made it.
        size: bytes of the image's file, by which another image of the same name is told.
        files: its outputs, relative to the folder.
        content: what was found in it; None where it failed.
        fault: why it failed.
    """

    maker: Maker
    size: int
    files: tuple[str, ...] = ()
    content: Content | None = None
    fault: str | None = None


class Record:
    """The record of one folder, in one run of one process.

    Args:
        output: the folder.
        shard: which part of the images this process does.
        maker: what makes the outputs.
        jobs: of all shards, in order.
        unlisted: path -> why there is no job for it.
    """

    def __init__(
        self, output: Path, shard: Shard, maker: Maker, jobs: Sequence[Job], unlisted: Mapping[Path, str]
    ) -> None:
        self.output = output
        self.shard = shard
        self.maker = maker
        self.jobs = jobs
        self.unlisted = unlisted
        self.entries: dict[str, Entry] = {}
        self._path = output / shard.file_name("done.jsonl")
        self._file: TextIO | None = None
        self._read: dict[Path, bytes] = {}
        self._is_known = False
        self._reload()

    def jobs_to_do(
        self, beside: Sequence[Path], *, skip_existing: bool, overwrite: bool
    ) -> tuple[list[Job], list[Job]]:
        """The shard's jobs that are left to do, and those that are done.

        Nothing is replaced unasked, and no two networks' outputs are mixed. `beside` are the files about the whole
        folder that will be written.

        Raises:
            ConfigError: outputs are there and nobody said to go on with or to replace them, or another network made
                them.
        """
        mine = self.shard.of(self.jobs)
        if overwrite:
            self._start_anew()
        else:
            self._check_network()
            if not (skip_existing and self._is_known):
                self._check_free([file for job in mine for file in job.files], beside, skip_existing=skip_existing)
        done = [skip_existing and self.is_done(job) for job in mine]
        todo = [job for job, is_done in zip(mine, done, strict=True) if not is_done]
        shared = [] if self.shard.count > 1 else beside  # other shards may be writing them
        remove_leftovers([*(file for job in todo for file in job.files), *shared])
        return todo, [job for job, is_done in zip(mine, done, strict=True) if is_done]

    def is_done(self, job: Job) -> bool:
        """Whether this very image has all its outputs, none of them empty, from this network."""
        entry = self.entries.get(str(job.image))
        return (
            entry is not None
            and self._is_own(entry)
            and entry.size == _size(job.file)
            and all(_size(file) > 0 for file in job.files)
        )

    def covered(self) -> dict[str, Entry]:
        """Everything that this network did and that is there, by the images' names: the jobs' first, in their order."""
        found = {job.name: self.entries[str(job.image)] for job in self.jobs if self.is_done(job)}
        listed = {str(job.image) for job in self.jobs}
        for image, entry in self.entries.items():
            is_there = entry.files and all(_size(self.output / file) > 0 for file in entry.files)
            if image not in listed and self._is_own(entry) and is_there:
                found[printable(image)] = entry
        return found

    def other_settings(self) -> list[Mapping[str, Any]]:
        """How else some of it was computed."""
        found = {json.dumps(entry.maker.settings): entry.maker.settings for entry in self.covered().values()}
        return [settings for settings in found.values() if settings != self.maker.settings]

    def facts(self) -> Mapping[str, Any]:
        """What made it and how, for summary.json."""
        made = {"checkpoint": self.maker.checkpoint, "network": self.maker.network, **self.maker.settings}
        return {**made, "other_settings": self.other_settings()}

    def write_for_all(self, write: Callable[[], None]) -> None:
        """Write files about the whole folder; anew where another process has ended meanwhile, and told less so far."""
        self._reload()
        write()
        while self._reload() and all(str(job.image) in self.entries for job in self.jobs):
            write()

    def __enter__(self) -> Self:
        self.output.mkdir(parents=True, exist_ok=True)
        cut = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")  # by a kill
        opened = open_own(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._file = os.fdopen(opened, "a", encoding="utf-8")
        self._write({"started": time.time(), **asdict(self.maker)}, before="\n" if cut else "")
        os.fsync(self._file.fileno())
        flush_folder(self.output)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write failed.json, also where a signal or a full disk ended the run."""
        if self._file is not None:
            self._file.close()
        try:
            self._write_failures()
        except OSError:  # what ended the run says more
            if error is None:
                raise

    def add(self, result: Result) -> None:
        """Note an image, whose outputs are written or which has none."""
        job, content = result.job, result.content
        files = () if content is None else tuple(os.path.relpath(file, self.output) for file in job.files)
        fault = printable(result.fault or "not predicted") if content is None else None
        entry = self.entries[str(job.image)] = Entry(self.maker, _size(job.file), files, content, fault)
        what = (
            {"fault": fault} if content is None else {"content": content.model_dump(mode="json", exclude_defaults=True)}
        )
        self._write({"image": str(job.image), "size": entry.size, "files": files, **what})

    def _reload(self) -> bool:
        """Read what all processes have noted so far; says whether anything is new."""
        files = (path for path in self.output.glob("done*.jsonl") if _NAME.fullmatch(path.name) and path.is_file())
        read = {path: path.read_bytes() for path in files}
        if read == self._read:
            return False
        self._read = read
        sessions = sorted((session for content in read.values() for session in _sessions(content)), key=itemgetter(0))
        self._is_known = bool(sessions)  # else the file is somebody else's
        self.entries = {image: entry for _, entries in sessions for image, entry in entries.items()}
        return True

    def _check_network(self) -> None:
        others = {image: entry.maker for image, entry in self.entries.items() if self._is_anothers(entry)}
        if others:
            image, there = next(iter(others.items()))
            these = " of these" if others.keys() <= {str(job.image) for job in self.jobs} else ""
            raise ConfigError(
                f"--output: {printable(self.output)} holds what {there} made of {len(others)}{these} images, such as "
                f"{printable(image)}, and this is {self.maker}. One folder is for one network: name another, or give "
                "--overwrite."
            )

    def _check_free(self, files: Sequence[Path], beside: Sequence[Path], *, skip_existing: bool) -> None:
        own = [] if self._is_known and self.shard.count > 1 else [*beside, self._path]
        there = [file for file in files if os.path.lexists(file)]
        about = [file for file in own if os.path.lexists(file)]
        if skip_existing and (there or about):
            first = printable([*there, *about][0])
            raise ConfigError(
                f"--skip-existing: {first} is there, and no {self._path.name} that says which network it comes from. "
                "Give --overwrite, or name another --output."
            )
        if there or about:
            what = f"{len(there)} outputs are there already, such as {printable(there[0])}" if there else ""
            raise ConfigError(
                f"{what or f'{printable(about[0])} is there already'}. "
                "Give --skip-existing, --overwrite or another --output."
            )

    def _start_anew(self) -> None:
        """Forget what was done in the folder; of a shard nothing, for the record is not its own alone."""
        if self.shard.count == 1:
            for path in self._read:
                path.unlink(missing_ok=True)
            self.entries, self._read = {}, {}

    def _is_own(self, entry: Entry) -> bool:
        return entry.content is not None and entry.maker.network == self.maker.network

    def _is_anothers(self, entry: Entry) -> bool:
        """Whether another network's outputs are there: of these images or others, of the same kinds or others."""
        if entry.content is None or self._is_own(entry):
            return False
        return not entry.files or any(os.path.lexists(self.output / file) for file in entry.files)

    def _write_failures(self) -> None:
        """failed.json where anything failed, whichever shard tried it; else there is none."""
        entries = ((job.name, self.entries.get(str(job.image))) for job in self.jobs)
        failed = {name: entry.fault for name, entry in entries if entry is not None and entry.fault is not None}
        failed |= {printable(path): printable(reason) for path, reason in self.unlisted.items()}
        path = self.output / FAILED
        if failed:
            write_json(path, dict(sorted(failed.items())))
        else:
            path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, Any], before: str = "") -> None:
        if self._file is not None:
            self._file.write(f"{before}{json.dumps(line)}\n")
            self._file.flush()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file for programs, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _sessions(content: bytes) -> list[tuple[float, dict[str, Entry]]]:
    """What each run noted, with the time of its start; lines that a kill or a power cut spoiled are passed over."""
    sessions: list[tuple[float, dict[str, Entry]]] = []
    maker = Maker("", "", {})
    for text in content.split(b"\n"):
        try:
            line = json.loads(text)
            if "network" in line:
                maker = Maker(str(line["network"]), str(line["checkpoint"]), dict(line["settings"]))
                before = sessions[-1][0] if sessions else 0.0  # whatever the clock says now, this is later
                sessions.append((max(before, float(line["started"])), {}))
            elif sessions:
                sessions[-1][1][str(line["image"])] = _entry(maker, line)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return sessions


def _entry(maker: Maker, line: Mapping[str, Any]) -> Entry:
    files = tuple(map(str, line["files"]))
    if "fault" in line:
        return Entry(maker, int(line["size"]), files, fault=str(line["fault"]))
    return Entry(maker, int(line["size"]), files, Content.model_validate(line["content"]))


def _size(file: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return file.stat().st_size
    except OSError:
        return -1
