"""Files from the network: resumed, verified, tried at every mirror, given up in bounded time.

This is on the standard library: `torch.hub.download_url_to_file` and `pooch` start a broken download over, which for
gigabytes from slow university hosts means never to finish.
"""

import hashlib
import http.client
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from segzoo.errors import DataError, first_line
from segzoo.files import open_own
from segzoo.progress import byte_bar

logger = logging.getLogger(__name__)

_BLOCK = 1 << 18  # bytes read at once
_REFUSED = range(400, 500)  # statuses that another try would only see again


@dataclass(frozen=True)
class Limits:
    """When a mirror is given up. Times are in seconds."""

    timeout: float = 20.0  # how long a server may be silent
    tries: int = 20  # connections in all; one that brings nothing new is the last anyway
    pause: float = 1.0  # between them
    window: float = 60.0  # over which the speed is taken
    least_bytes: int = 60_000  # a server that sends less in a window is as good as silent
    most_bytes: int = sys.maxsize  # of a file whose size is not known


LIMITS = Limits()


def download(
    urls: Sequence[str],
    target: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    check: Callable[[Path], str] | None = None,
    resumed: bool = False,
    by_hand: str = "",
    limits: Limits = LIMITS,
) -> None:
    """Fetch a file, unless it is there already.

    What has arrived is in `<name>.part`. Only a complete and verified file gets its name.

    Args:
        urls: mirrors, tried in order.
        target: where the file goes; its folder must exist.
        size: in bytes, where it is known.
        checksum: `md5:` or `sha256:` and the digits, where it is known.
        check: looks at what has arrived and says what is wrong with it; empty where nothing is.
        resumed: go on from what an earlier try or call left, also at another mirror. Two parts may be of two versions,
            so that only content which `checksum` or `check` verifies whole may be fetched so.
        by_hand: a sentence for the case that no mirror has it.
        limits: when to give up.

    Raises:
        DataError: no mirror has it, it is not what was published, or it cannot be written.
    """
    if target.is_file():
        verify(target, checksum)
        return
    part = target.with_name(f"{target.name}.part")
    usable = 0 if not resumed else limits.most_bytes if size is None else size
    problems = []
    for url in urls:
        try:
            _from_mirror(url, part, size, usable, limits)
            if wrong := _mismatch(part, checksum) or (check(part) if check else ""):
                part.unlink()  # or every later try would go on from it
                raise _WrongFileError(f"{wrong}; what came was deleted")
        except (OSError, http.client.HTTPException, ValueError) as error:
            problems.append(f"{target.name}: {url}: {_reason(error)}")
        else:
            with _written(target, ""):
                part.replace(target)
            return
    again = "Or run the command again: it goes on where it stopped." if resumed and part.exists() else ""
    raise DataError([*problems, " ".join(filter(None, (f"{target.name}: no mirror left.", by_hand, again)))])


def verify(file: Path, checksum: str | None, name: str = "") -> None:
    """Compare a file with what was published under `name`, as far as that is known.

    Raises:
        DataError: it is another file, or damaged.
    """
    if wrong := _mismatch(file, checksum):
        raise DataError(
            f"{file}: {wrong} of {name or file.name}: incomplete, damaged or another file. Delete it and fetch it "
            "again."
        )


def _mismatch(file: Path, checksum: str | None) -> str:
    if checksum is None:
        return ""
    kind, _, digits = checksum.partition(":")
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    return "" if found == digits else f"{kind} is {found}, not {digits}"


class _WrongFileError(ValueError):
    """What the server has is not what was asked for."""


def _from_mirror(url: str, part: Path, size: int | None, usable: int, limits: Limits) -> None:
    """Connect until all is there, or until a connection brings nothing new.

    A part of an earlier try is gone on from if it has no more than `usable` bytes.
    """
    furthest = _size(part)
    for attempt in range(limits.tries):
        if attempt:
            logger.info("%s: connection broke; trying again", part.stem)
            time.sleep(limits.pause)
        if _size(part) > usable:
            part.unlink()
        try:
            _connect(url, part, size, limits)
            return
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code in _REFUSED:
                if error.headers.get("Content-Range") == f"bytes */{_size(part)}":
                    return  # nothing is missing
                if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                    part.unlink(missing_ok=True)  # it is longer than what the server has
                raise
            if _size(part) <= furthest or attempt == limits.tries - 1:
                raise
            furthest = _size(part)


def _connect(url: str, part: Path, size: int | None, limits: Limits) -> None:
    """One connection: ask for what is missing and write it."""
    have = _size(part)
    if have == size:
        return
    headers = {"User-Agent": "segzoo", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = Request(url, headers=headers)  # noqa: S310  # the URLs are those of our tables
    with urlopen(request, timeout=limits.timeout) as response:  # noqa: S310
        start = _start(response, have)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else size
        if size not in {None, total}:
            raise _WrongFileError(f"offers {total} bytes, not {size}")
        if total is not None and total > limits.most_bytes:
            raise _WrongFileError(f"offers {total} bytes, and no more than {limits.most_bytes} are taken")
        logger.info("%s: %s %s", part.stem, "going on from" if start else "downloading from", url)
        received = _receive(response, part, start, total, limits)
    if total is not None and received < total:
        raise ConnectionError(f"the connection broke after {received} of {total} bytes")


def _start(response: http.client.HTTPResponse, have: int) -> int:
    """Where the server's bytes begin: where we asked, or at 0 if it knows no ranges."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if begins is None or int(begins[1]) != have:
        raise _WrongFileError(f"answers another range ({response.headers.get('Content-Range')}) than from {have}")
    return have


def _receive(response: http.client.HTTPResponse, part: Path, start: int, total: int | None, limits: Limits) -> int:
    """Write what comes in; how far the file reaches then."""
    done = start
    window_end, window_start = time.monotonic() + limits.window, start
    most = limits.most_bytes if total is None else total
    with _written(part):
        file = os.fdopen(open_own(part, os.O_WRONLY | os.O_CREAT), "wb", buffering=0)
    with file, byte_bar(part.stem, total) as move_to:
        with _written(part):
            file.truncate(start)
            file.seek(start)
        while block := response.read1(_BLOCK):
            with _written(part):
                rest = memoryview(block)
                while rest:  # unbuffered, so that a full disk shows here and not when the file is closed
                    rest = rest[file.write(rest) :]
            done += len(block)
            move_to(done)
            if done > most:
                raise _WrongFileError(f"sends more than {most} bytes")
            if time.monotonic() > window_end:
                if done - window_start < limits.least_bytes:
                    raise TimeoutError(f"only {done - window_start} bytes in {limits.window:g} s")
                window_end, window_start = time.monotonic() + limits.window, done
    return done


@contextmanager
def _written(file: Path, then: str = ". The next run goes on from what is there.") -> Iterator[None]:
    """A disk that does not take the file ends the download: other mirrors would help nothing."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror}){then}") from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code} ({error.reason})"
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)
