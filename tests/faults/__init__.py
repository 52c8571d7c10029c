"""A model hub on this machine that speaks the real one's protocol, and does to a download what networks do.

```python
hub = Hub()
commit = hub.add("acme/tiny-m3", folder)
with hub:
    hub.fault = on(Truncated(after=5000), "*.safetensors", times=2)
    snapshot_download("acme/tiny-m3", endpoint=hub.address)
assert hub.fetched["model.safetensors"] > 10_000
assert not [r for r in hub.requests if r.cdn and "Authorization" in r.headers]
```
"""

from faults.addresses import refused, unanswered, unconnectable
from faults.exchange import Answer, Request
from faults.hub import CERTIFICATE, Hub
from faults.kinds import (
    Announced,
    Captive,
    Fault,
    Gzipped,
    RangeIgnored,
    Redirected,
    Reset,
    Silent,
    Slow,
    Stalled,
    Status,
    Truncated,
    WrongBytes,
    WrongRange,
    on,
    too_many,
)
from faults.repository import Repository

__all__ = [
    "CERTIFICATE",
    "Announced",
    "Answer",
    "Captive",
    "Fault",
    "Gzipped",
    "Hub",
    "RangeIgnored",
    "Redirected",
    "Repository",
    "Request",
    "Reset",
    "Silent",
    "Slow",
    "Stalled",
    "Status",
    "Truncated",
    "WrongBytes",
    "WrongRange",
    "on",
    "refused",
    "too_many",
    "unanswered",
    "unconnectable",
]
