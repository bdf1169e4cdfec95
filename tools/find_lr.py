"""What `segzoo find-lr` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.find_lr import main

if __name__ == "__main__":
    run(main)
