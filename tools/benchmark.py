"""What `segzoo benchmark` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.benchmark import main

if __name__ == "__main__":
    run(main)
