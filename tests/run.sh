#!/usr/bin/env bash
# Sets everything up in .venv (or $VENV), checks the code, and runs the tests. Arguments go to pytest: -m slow, say.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
"$venv/bin/pip" install --quiet --constraint constraints.txt --editable '.[eval,parquet,qdrant,chroma,langchain,llama-index]' --group dev
"$venv/bin/ruff" check --quiet .
"$venv/bin/ruff" format --quiet --check .
"$venv/bin/mypy"
PATH="$venv/bin:$PATH" "$venv/bin/lint-imports" >/dev/null
exec "$venv/bin/python" -m pytest "$@"
