"""``python -m harness``."""

from harness.cli.app import command

if __name__ == "__main__":
    command()
