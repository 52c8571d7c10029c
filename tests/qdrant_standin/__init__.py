"""A stand-in for a Qdrant server, in the test's own process.

The real `qdrant-client` talks to it over HTTP (`RestServer`) and gRPC (`RpcServer`); the embedded engine
`qdrant_edge` keeps and searches the points (`Backend`). It is not a real server: one node, one shard, exact search
only, nothing survives the test, and what a server refuses is written down here by hand. It is strict where a server is
lenient: a request that the published API description does not cover is refused and remembered as a violation, and an
operation that the stand-in does not have answers 501 instead of guessing: recommendations, discovery, formulas, MMR,
order, groups, facets, geography, inference, shard keys, snapshots.

```python
with RestServer(openapi=os.environ.get("M3_QDRANT_OPENAPI")) as rest, RpcServer(rest.backend) as rpc:
    client = QdrantClient("127.0.0.1", port=rest.port, grpc_port=rpc.port, prefer_grpc=True)
    rest.faults.append(Fault(503, path="/points", times=2))
```
"""

from qdrant_standin.backend import Backend
from qdrant_standin.faults import Fault
from qdrant_standin.refusals import Refusal
from qdrant_standin.rest import RestServer
from qdrant_standin.rpc import RpcServer

__all__ = ["Backend", "Fault", "Refusal", "RestServer", "RpcServer"]
