"""What a person sees of the package's log: from a command, a script or a notebook."""

import logging

from rich.logging import RichHandler

from segzoo.escapes import terminal


def show_log(*, anew: bool = False) -> None:
    """Show messages of the package on standard error, where nobody has said how to show them.

    A handler or a level that somebody gave to the logger `segzoo`, and a handler of all loggers, stay as they are:
    `logging.getLogger("segzoo").setLevel(logging.WARNING)` before the call makes it quiet.

    Args:
        anew: in place of whatever was said, as a command does, to which standard error belongs.
    """
    logger = logging.getLogger("segzoo")
    if anew:
        logger.handlers, logger.propagate = [], False
        logger.setLevel(logging.NOTSET)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if logger.hasHandlers():
        return
    console = terminal(stderr=True)
    handler: logging.Handler = logging.StreamHandler()  # a log file gets lines that are neither wrapped nor padded
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    logger.addHandler(handler)
    logger.propagate = False
