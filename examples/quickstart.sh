#!/usr/bin/env bash
# Sets everything up in .venv (or $VENV) and indexes the debate corpus and answers three questions.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --constraint constraints.txt --editable '.[qdrant]'
exec "$venv/bin/python" examples/quickstart.py
