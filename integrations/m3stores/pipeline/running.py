"""Runs a job: in this process, or on a cluster."""

import time

from m3core import InvalidInput, MissingDependency
from m3stores.pipeline import local
from m3stores.pipeline.job import Job


def run(job: Job, ray: str | None) -> None:
    """Does it, and counts what was done.

    Args:
        job: what to do.
        ray: the address of a cluster; see `index`.

    Raises:
        InvalidInput: there is no such source, or nothing in it; or no such cluster.
        MissingDependency: Ray is not installed, or pyarrow for Parquet.
        StoreError: the target or the cluster failed.
    """
    started = time.perf_counter()
    documents = job.documents()
    if ray is None:
        local.run(job, documents)
    else:
        try:
            from m3stores.pipeline import cluster
        except ImportError as error:
            raise MissingDependency("a cluster needs Ray: pip install 'm3-retrieval[ray]'") from error
        cluster.run(job, documents, ray)
    if not job.summary.documents and not job.summary.rejected and documents.unit == "B":
        raise InvalidInput(f"there is nothing to read in {job.source}: it is empty")
    job.summary.seconds = time.perf_counter() - started
