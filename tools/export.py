"""What `segzoo export` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.networks import export as main

if __name__ == "__main__":
    run(main)
