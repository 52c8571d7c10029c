"""Runs one step of preparation."""

import sys
from importlib import import_module
from pathlib import Path

import_module(f"encoding.preparing.{sys.argv[1]}").prepare(Path(sys.argv[2]))
