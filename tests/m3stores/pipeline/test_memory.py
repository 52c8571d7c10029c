"""Indexing takes as much memory for a million records as for a hundred thousand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import memory_script
import pytest

RECORDS = 1_000_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(m3_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "records.jsonl"
    with source.open("w") as file:
        for number in range(RECORDS):
            file.write(json.dumps({"_id": f"record {number}", "text": f"the one of {number}", "n": number}) + "\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, memory_script.__file__, str(m3_dir), str(source)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True)
    taken = [int(line) for line in done.stdout.split()]
    assert len(taken) == RECORDS // 50_000
    assert max(taken) < taken[1] + (16 << 20), [round(size / 1e6) for size in taken]
