"""What `segzoo make-config` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.data import make_config as main

if __name__ == "__main__":
    run(main)
