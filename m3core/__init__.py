"""m3core: dense, sparse and multi-vector text representations from one forward pass.

    from m3core import M3Encoder

    encoder = M3Encoder("m3-mini")                      # bundled zh/en model, no network
    docs = encoder.encode_documents(["巴黎是法国的首都。", "Tokyo is the capital of Japan."])
    encoder.encode_queries(["法国首都在哪里？"]).score(docs)   # (1, 2) hybrid scores

Importing this package loads neither torch nor transformers; they load with the first encoder.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3core.cache import VectorCache
    from m3core.encoder import M3Encoder
    from m3core.errors import (
        CacheWarning,
        CollectionLocked,
        CollectionMismatch,
        DownloadFailed,
        EncoderClosed,
        InvalidInput,
        InvalidModel,
        M3Error,
        M3Warning,
        MissingDependency,
        ModelNotFound,
        OutOfMemory,
        StoreError,
        StoreWarning,
        TrainingFailed,
        TruncationWarning,
        UnknownTokensWarning,
        UnsupportedMode,
        WorkerDied,
        WorkerWarning,
    )
    from m3core.explaining import Explanation, explain
    from m3core.fusion import DBSF, RRF, Fusion, WeightedSum, fuse
    from m3core.output import MODES, Fingerprint, M3Output, Mode, SparseVector
    from m3core.records import Record
    from m3core.scoring import compute_score
    from m3core.tokenizer import Token, TokenWeight

__version__ = "0.1.0"

_HOME = {
    "M3Encoder": "encoder",
    "MODES": "output",
    "Fingerprint": "output",
    "M3Output": "output",
    "Mode": "output",
    "SparseVector": "output",
    "Record": "records",
    "Explanation": "explaining",
    "explain": "explaining",
    "DBSF": "fusion",
    "RRF": "fusion",
    "Fusion": "fusion",
    "WeightedSum": "fusion",
    "compute_score": "scoring",
    "fuse": "fusion",
    "Token": "tokenizer",
    "TokenWeight": "tokenizer",
    "VectorCache": "cache",
    "CacheWarning": "errors",
    "CollectionLocked": "errors",
    "CollectionMismatch": "errors",
    "DownloadFailed": "errors",
    "EncoderClosed": "errors",
    "InvalidInput": "errors",
    "InvalidModel": "errors",
    "M3Error": "errors",
    "M3Warning": "errors",
    "MissingDependency": "errors",
    "ModelNotFound": "errors",
    "OutOfMemory": "errors",
    "StoreError": "errors",
    "StoreWarning": "errors",
    "TrainingFailed": "errors",
    "TruncationWarning": "errors",
    "UnknownTokensWarning": "errors",
    "UnsupportedMode": "errors",
    "WorkerDied": "errors",
    "WorkerWarning": "errors",
}

__all__ = [
    "DBSF",
    "MODES",
    "RRF",
    "CacheWarning",
    "CollectionLocked",
    "CollectionMismatch",
    "DownloadFailed",
    "EncoderClosed",
    "Explanation",
    "Fingerprint",
    "Fusion",
    "InvalidInput",
    "InvalidModel",
    "M3Encoder",
    "M3Error",
    "M3Output",
    "M3Warning",
    "MissingDependency",
    "Mode",
    "ModelNotFound",
    "OutOfMemory",
    "Record",
    "SparseVector",
    "StoreError",
    "StoreWarning",
    "Token",
    "TokenWeight",
    "TrainingFailed",
    "TruncationWarning",
    "UnknownTokensWarning",
    "UnsupportedMode",
    "VectorCache",
    "WeightedSum",
    "WorkerDied",
    "WorkerWarning",
    "compute_score",
    "explain",
    "fuse",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
