"""What a process keeps resident while it encodes for long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = {
    "10,000 queries one by one": """
def work(share):
    for n in range(10_000 // share):
        encoder.encode_queries([f"the meaning of {n}"])
""",
    "20,000 passages in a stream": """
def work(share):
    for output in encoder.iter_encode((f"the meaning of {n} and of me" for n in range(20_000 // share)), window=1000):
        pass
""",
}
SCRIPT = """
import gc, sys
from m3core import M3Encoder
encoder = M3Encoder(sys.argv[1], dtype="float32", device="cpu")
{work}
def resident():
    gc.collect()
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
encoder.warm_up()
work(5)
before = resident()
work(1)
print(resident() / before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not say what is resident")
@pytest.mark.parametrize("work", WORK)
def test_memory_stays_flat(m3_dir: Path, work: str) -> None:
    script = SCRIPT.format(work=WORK[work])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a second one does such a small model no good
    command = [sys.executable, "-c", script, m3_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert 0.95 < float(done.stdout) < 1.05
