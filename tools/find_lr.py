"""What `segzoo find-lr` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.training import find_lr as main

if __name__ == "__main__":
    run(main)
