"""What `segzoo models` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.networks import models as main

if __name__ == "__main__":
    run(main)
