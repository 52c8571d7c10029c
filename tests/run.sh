#!/usr/bin/env bash
# Sets everything up in .venv (or $VENV), checks the code, and runs the tests, in as many processes as there are cores,
# each with one thread for torch. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
"$venv/bin/pip" install --quiet --constraint constraints.txt --editable '.[eval,mteb,parquet,qdrant,chroma,langchain,llama-index,openvino,modelscope,train,ray,demo]' --group dev
"$venv/bin/ruff" check --quiet .
"$venv/bin/ruff" format --quiet --check .
"$venv/bin/mypy"
PATH="$venv/bin:$PATH" "$venv/bin/lint-imports" >/dev/null
OMP_NUM_THREADS=1 exec "$venv/bin/python" -m pytest --numprocesses auto --dist worksteal "$@"
