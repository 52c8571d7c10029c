"""Builds the indexes of a shard, in a process of its own: `optimizing.py SHARD LOCK`. Imports nothing of ours."""

import subprocess
import sys
from pathlib import Path


def optimize_apart(shard: Path, lock: Path) -> None:
    """Runs this file on a shard that nobody has open.

    Args:
        shard: its directory.
        lock: the lock file that the child holds meanwhile, longer than this process if need be.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    command = [sys.executable, __file__, str(shard), str(lock)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own file)
    if child.returncode:
        raise RuntimeError(f"optimizing failed: {child.stderr.strip()[-1000:]}")


def main() -> None:
    """Of the child."""
    from filelock import FileLock
    from qdrant_edge import EdgeShard

    with FileLock(sys.argv[2], timeout=0):
        shard = EdgeShard.load(sys.argv[1])
        shard.optimize()
        shard.close()


if __name__ == "__main__":
    main()
