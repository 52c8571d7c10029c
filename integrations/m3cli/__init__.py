"""The `m3` command: search, encode, score and evaluate from the shell."""

from m3cli.app import main

__all__ = ["main"]
