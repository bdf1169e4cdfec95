"""What `segzoo model` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.networks import model as main

if __name__ == "__main__":
    run(main)
