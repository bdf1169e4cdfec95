"""What `segzoo paper-experiments` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.paper_experiments import main

if __name__ == "__main__":
    run(main)
