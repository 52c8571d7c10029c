#!/usr/bin/env bash
# Sets everything up in .venv (or $VENV) and answers three debate questions with the bundled model.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --constraint constraints.txt --editable .
exec "$venv/bin/python" examples/quickstart.py
