"""A collection's configuration: as it is asked for, as a server shows it, and as the engine takes it.

Only what changes answers reaches the engine: sizes, distances, datatypes, MaxSim, IDF. Settings of speed and memory
(HNSW, quantization, disk, shards, replicas) are remembered and shown, no more.
"""

import copy
from typing import Any, NamedTuple

import qdrant_edge as edge

from qdrant_standin.refusals import bad_input, invalid, unsupported

_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": False}
_OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
_PARAMS = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": True}
_KNOWN_PARAMS = (*_PARAMS, "sharding_method", "sparse_vectors", "payload")


class Space(NamedTuple):
    """Where vectors of one name live."""

    kind: str  # dense, multi, or sparse
    size: int = 0


def described(request: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a new collection will show."""
    given = _present(request)
    if given.get("sharding_method") == "custom":
        raise unsupported("custom sharding")
    config: dict[str, Any] = {
        "params": {"vectors": given.get("vectors", {}), **_PARAMS},
        "hnsw_config": {**_HNSW, **_present(given.get("hnsw_config"))},
        "optimizer_config": {**_OPTIMIZER, **_present(given.get("optimizers_config"))},
        "wal_config": {**_WAL, **_present(given.get("wal_config"))},
        "quantization_config": given.get("quantization_config"),
    }
    config["params"].update({key: given[key] for key in _KNOWN_PARAMS if key in given})
    config.update({key: given[key] for key in ("strict_mode_config", "metadata") if key in given})
    for name, params in dense_params(config).items():
        if not 1 <= params["size"] <= 65536:
            raise invalid(f"vectors.{name}.size", f"value {params['size']} invalid, must be from 1 to 65536")
    return copy.deepcopy(config)


def patched(config: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The configuration after an update: what is not mentioned stays."""
    config = copy.deepcopy(config)
    for asked, shown in (("hnsw_config",) * 2, ("optimizers_config", "optimizer_config"), ("params",) * 2):
        config[shown].update(_present(patch.get(asked)))
    _quantize(config, patch)
    for name, diff in _present(patch.get("vectors")).items():
        params = dense_params(config).get(name)
        if params is None:
            raise bad_input(f"Not existing vector name error: {name}")
        _quantize(params, diff)
        diff = {key: value for key, value in _present(diff).items() if key != "quantization_config"}
        hnsw = {**_present(params.get("hnsw_config")), **_present(diff.pop("hnsw_config", None))}
        params.update(diff, **({"hnsw_config": hnsw} if hnsw else {}))
    for name, diff in _present(patch.get("sparse_vectors")).items():
        if name not in config["params"].get("sparse_vectors", {}):
            raise bad_input(f"Not existing vector name error: {name}")
        config["params"]["sparse_vectors"][name].update(_present(diff))
    if strict := _present(patch.get("strict_mode_config")):
        config["strict_mode_config"] = {**config.get("strict_mode_config", {}), **strict}
    if patch.get("metadata") is not None:  # a null removes its key
        config["metadata"] = _present({**config.get("metadata", {}), **patch["metadata"]})
    return config


def dense_params(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of dense vectors and multi-vectors by name; the unnamed one's is empty."""
    vectors = config["params"]["vectors"]
    return {"": vectors} if is_unnamed(config) else vectors


def is_unnamed(config: dict[str, Any]) -> bool:
    """Whether the vectors' parameters are those of one vector, not of several by name."""
    return isinstance(config["params"]["vectors"].get("size"), int)


def spaces(config: dict[str, Any]) -> dict[str, Space]:
    """What each name holds."""
    dense = {
        name: Space("multi" if params.get("multivector_config") else "dense", params["size"])
        for name, params in dense_params(config).items()
    }
    return {**dense, **dict.fromkeys(config["params"].get("sparse_vectors") or {}, Space("sparse"))}


def edge_config(config: dict[str, Any]) -> edge.EdgeConfig:
    """What the engine makes a shard of."""
    dense = {name: edge.EdgeVectorParams(**edge_params(params)) for name, params in dense_params(config).items()}
    sparse = {
        name: edge.EdgeSparseVectorParams(modifier=_modifier(params))
        for name, params in (config["params"].get("sparse_vectors") or {}).items()
    }
    if not dense and not sparse:  # a server takes that, the engine does not
        sparse = {"unused": edge.EdgeSparseVectorParams()}
    return edge.EdgeConfig(vectors=dense or None, sparse_vectors=sparse or None)


def edge_params(params: dict[str, Any]) -> dict[str, Any]:
    """The arguments that describe a dense vector to the engine."""
    options: dict[str, Any] = {"size": params["size"], "distance": getattr(edge.Distance, params["distance"])}
    if params.get("multivector_config"):
        options["multivector_config"] = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    if params.get("datatype"):
        options["datatype"] = getattr(edge.VectorStorageDatatype, params["datatype"].capitalize())
    return options


def add_space(config: dict[str, Any], name: str, request: dict[str, Any]) -> edge.UpdateOperation:
    """Adds a vector's name to the configuration; returns what adds it to the shard."""
    if name in spaces(config):
        raise bad_input(f"Vector name {name} already exists")
    if is_unnamed(config) and request.get("dense"):
        raise unsupported("named vectors beside the unnamed one")
    if dense := request.get("dense"):
        config["params"]["vectors"][name] = _present(dense)
        return edge.UpdateOperation.create_dense_vector(name, **edge_params(dense))
    sparse = _present(request["sparse"])
    shown = {"modifier": sparse["modifier"]} if "modifier" in sparse else {}
    config["params"].setdefault("sparse_vectors", {})[name] = shown
    return edge.UpdateOperation.create_sparse_vector(name, modifier=_modifier(sparse))


def drop_space(config: dict[str, Any], name: str) -> edge.UpdateOperation:
    """The opposite of `add_space`."""
    if name not in spaces(config):
        raise bad_input(f"Not existing vector name error: {name}")
    for group in (config["params"]["vectors"], config["params"].get("sparse_vectors", {})):
        group.pop(name, None)
    return edge.UpdateOperation.delete_vector_name(name)


def _modifier(params: dict[str, Any]) -> Any:
    return edge.Modifier.Idf if params.get("modifier") == "idf" else None


def _quantize(params: dict[str, Any], diff: dict[str, Any]) -> None:
    quantization = diff.get("quantization_config")
    if quantization is not None:
        params["quantization_config"] = None if quantization == "Disabled" else quantization


def _present(values: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if value is not None}
