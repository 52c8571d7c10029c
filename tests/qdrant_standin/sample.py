"""Points to fill the stand-in with."""

import numpy as np
from qdrant_client import models as m

RNG = np.random.default_rng(7)
N, DIM = 40, 8
DENSE = RNG.normal(size=(N, DIM)).astype(np.float32)
MULTI = [RNG.normal(size=(1 + n % 4, 4)).astype(np.float32) for n in range(N)]
SPARSE = [{int(i): float(RNG.random()) for i in RNG.choice(30, 5, replace=False)} for _ in range(N)]
FLAGS = [n % 3 == 0 for n in range(N)]
VECTORS = {
    "dense": m.VectorParams(size=DIM, distance=m.Distance.DOT),
    "multi": m.VectorParams(
        size=4,
        distance=m.Distance.DOT,
        hnsw_config=m.HnswConfigDiff(m=0),
        on_disk=True,
        datatype=m.Datatype.FLOAT32,
        multivector_config=m.MultiVectorConfig(comparator=m.MultiVectorComparator.MAX_SIM),
    ),
}


def sparse(weights: dict[int, float]) -> m.SparseVector:
    return m.SparseVector(indices=list(weights), values=list(weights.values()))


def point(n: int) -> m.PointStruct:
    payload = {"n": n, "flag": FLAGS[n], "tags": [f"t{n % 4}", "all"], "nested": [{"a": n, "ok": FLAGS[n]}]}
    if n % 5 == 0:
        payload["none"] = None
    vectors = {"dense": DENSE[n].tolist(), "multi": MULTI[n].tolist(), "sparse": sparse(SPARSE[n])}
    return m.PointStruct(id=n, vector=vectors, payload=payload)
