"""What `segzoo compare` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.evaluate import compare as main

if __name__ == "__main__":
    run(main)
