"""Training: `FineTuner` for retrieval, `RetroMAE` on plain texts before it, and `making` for training data.

torch is imported where something of it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3core.train.finetuner import FineTuner
    from m3core.train.pretraining.retromae import Pretrained, RetroMAE
    from m3core.train.records import Example, ScoredPair, read_examples
    from m3core.train.running import FineTuned

_HOME = {
    "FineTuned": "running",
    "FineTuner": "finetuner",
    "Example": "records",
    "Pretrained": "pretraining.retromae",
    "RetroMAE": "pretraining.retromae",
    "ScoredPair": "records",
    "read_examples": "records",
}

__all__ = ["Example", "FineTuned", "FineTuner", "Pretrained", "RetroMAE", "ScoredPair", "read_examples"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
