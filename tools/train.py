"""What `segzoo train` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.training import train as main

if __name__ == "__main__":
    run(main)
