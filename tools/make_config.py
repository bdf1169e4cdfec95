"""What `segzoo make-config` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.make_config import main

if __name__ == "__main__":
    run(main)
