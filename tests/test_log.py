"""What a script or a notebook shows of a run without having asked for a log."""

import logging
from collections.abc import Callable

import pytest

from segzoo.escapes import show_log


@pytest.fixture
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As in a script, where the test runner's own handlers are not."""
    root = logging.getLogger()
    return lambda: monkeypatch.setattr(root, "handlers", [])


def test_what_somebody_set_stays(no_handlers: Callable[[], None], capfd: pytest.CaptureFixture[str]) -> None:
    no_handlers()
    log = logging.getLogger("segzoo")
    log.setLevel(logging.WARNING)
    own = logging.NullHandler()
    log.addHandler(own)
    show_log()
    assert (log.level, log.handlers) == (logging.WARNING, [own])
    show_log(anew=True)
    assert log.level == logging.INFO
    assert own not in log.handlers


def test_handlers_of_all_loggers_get_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    show_log()
    logging.getLogger("segzoo.training").info("a line")
    assert caplog.messages == ["a line"]
    assert not logging.getLogger("segzoo").handlers, "or it would stand there twice"


def test_a_second_call_adds_nothing(no_handlers: Callable[[], None]) -> None:
    no_handlers()
    show_log()
    show_log()
    assert len(logging.getLogger("segzoo").handlers) == 1
