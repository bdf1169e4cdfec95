"""Archives from the network: resumed, verified, tried at every mirror, given up in bounded time.

A download of our own, on the standard library: `torch.hub.download_url_to_file` and `pooch` start a broken download
over, which for gigabytes from slow university hosts means never to finish.
"""

import hashlib
import http.client
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from segzoo.errors import DataError, first_line
from segzoo.fetching.archive import is_archive
from segzoo.fetching.sources import Source
from segzoo.files import open_own
from segzoo.progress import byte_bar

logger = logging.getLogger(__name__)

_BLOCK = 1 << 18  # bytes read at once
_REFUSED = range(400, 500)  # statuses that another try would only see again


@dataclass(frozen=True)
class Limits:
    """When a mirror is given up.

    Args:
        timeout: seconds a server may be silent.
        tries: connections to one mirror in all; one that brings nothing new is the last anyway.
        pause: seconds between them.
        window: seconds over which the speed is taken.
        least_bytes: a server that sends less in a window is as good as silent.
    """

    timeout: float = 20.0
    tries: int = 20
    pause: float = 1.0
    window: float = 60.0
    least_bytes: int = 60_000


LIMITS = Limits()


def download(source: Source, folder: Path, limits: Limits = LIMITS) -> Path:
    """The archive of `source`, verified, in `folder`; fetched unless it is there already.

    What has arrived is kept in `<filename>.part`, and the next try or the next call goes on from there, also at
    another mirror. Only a complete and verified file gets its name. Without a known size and checksum, two halves might
    be of two versions, so that such an archive starts over each time.

    Args:
        source: what to fetch, and from where.
        folder: where to put it; must exist.
        limits: when to give up.

    Raises:
        DataError: no mirror has it, it is not what was published, or it cannot be written.
    """
    target = folder / source.filename
    if target.is_file():
        verify(target, source)
        return target
    part = target.with_name(f"{target.name}.part")
    problems = []
    for url in source.urls:
        try:
            _from_mirror(url, part, source, limits)
            _verify_part(part, source)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problems.append(f"{source.filename}: {url}: {_reason(error)}")
        else:
            _promote(part, target)
            return target
    by_hand = f"Fetch {source.filename} by hand ({source.homepage}) and name it: --archive FILE"
    again = " Or run the command again: it goes on where it stopped." if part.exists() and source.md5 else ""
    raise DataError([*problems, f"{source.filename}: no mirror left. {by_hand}.{again}"])


def verify(file: Path, source: Source) -> None:
    """Compare a file with what was published, as far as that is known.

    Raises:
        DataError: it is another file, or damaged.
    """
    if source.md5 is not None and (found := _md5(file)) != source.md5:
        raise DataError(
            f"{file}: md5 is {found}, not {source.md5} of {source.filename}: incomplete, damaged or another file. "
            "Delete it and fetch it again."
        )


class _WrongFileError(ValueError):
    """What the server has is not what was asked for."""


def _from_mirror(url: str, part: Path, source: Source, limits: Limits) -> None:
    """Connect until all is there, or until a connection brings nothing new."""
    furthest = _size(part)
    for attempt in range(limits.tries):
        if attempt:
            logger.info("%s: connection broke; trying again", source.filename)
            time.sleep(limits.pause)
        try:
            _connect(url, part, source, limits)
            return
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code in _REFUSED:
                raise
            if _size(part) <= furthest or attempt == limits.tries - 1:
                raise
            furthest = _size(part)


def _connect(url: str, part: Path, source: Source, limits: Limits) -> None:
    """One connection: ask for the rest and write it."""
    have = _resumable(part, source)
    if have == source.size:
        return
    headers = {"User-Agent": "segzoo", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = Request(url, headers=headers)  # noqa: S310  # the URLs are those of our table
    with urlopen(request, timeout=limits.timeout) as response:  # noqa: S310
        start = _start(response, have)
        total = _total(response, start)
        if source.size is not None and total not in {None, source.size}:
            raise _WrongFileError(f"offers {total} bytes, not {source.size}")
        known = source.size if total is None else total
        logger.info("%s: %s %s", source.filename, "going on from" if start else "downloading from", url)
        received = _receive(response, part, start, known, limits)
    if known is not None and received < known:
        raise ConnectionError(f"the connection broke after {received} of {known} bytes")


def _resumable(part: Path, source: Source) -> int:
    """Bytes of an earlier try that can be gone on from; what cannot be is dropped."""
    have = _size(part)
    if have and (source.md5 is None or source.size is None or have > source.size):
        part.unlink()
        return 0
    return have


def _start(response: http.client.HTTPResponse, have: int) -> int:
    """Where the server's bytes begin: where we asked, or at 0 if it knows no ranges."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if begins is None or int(begins[1]) != have:
        raise _WrongFileError(f"answers another range ({response.headers.get('Content-Range')}) than from {have}")
    return have


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _receive(response: http.client.HTTPResponse, part: Path, start: int, total: int | None, limits: Limits) -> int:
    """Write what comes in; how far the file reaches then."""
    done = start
    window_end, window_bytes = time.monotonic() + limits.window, 0
    with _opened(part, start) as file, byte_bar(part.stem, total) as move_to:
        while block := response.read1(_BLOCK):
            _write(file, block, part)
            done += len(block)
            window_bytes += len(block)
            move_to(done)
            if total is not None and done > total:
                raise _WrongFileError(f"sends more than {total} bytes")
            if time.monotonic() > window_end:
                if window_bytes < limits.least_bytes:
                    raise TimeoutError(f"only {window_bytes} bytes in {limits.window:g} s")
                window_end, window_bytes = time.monotonic() + limits.window, 0
    return done


def _opened(part: Path, start: int) -> IO[bytes]:
    try:
        file = os.fdopen(open_own(part, os.O_WRONLY | os.O_CREAT), "wb", buffering=0)
        file.truncate(start)
        file.seek(start)
        return file
    except OSError as error:
        raise _not_written(part, error) from error


def _write(file: IO[bytes], block: bytes, part: Path) -> None:
    rest = memoryview(block)
    try:
        while rest:  # unbuffered, so that a full disk shows here and not when the file is closed
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _not_written(part, error) from error


def _not_written(part: Path, error: OSError) -> DataError:
    return DataError(f"{part}: cannot be written ({error.strerror}). The next run goes on from what is there.")


def _verify_part(part: Path, source: Source) -> None:
    """As `verify`, and without a checksum at least: is it an archive? What is wrong is deleted, or it would stay so."""
    if source.md5 is None:
        wrong = "" if is_archive(part) else "no tar or zip archive, or not all of it"
    else:
        found = _md5(part)
        wrong = "" if found == source.md5 else f"md5 is {found}, not {source.md5}"
    if wrong:
        part.unlink()
        raise _WrongFileError(f"{wrong}; what came was deleted")


def _promote(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror})") from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code} ({error.reason})"
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)
