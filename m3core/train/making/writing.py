"""Records as BGE writes them, which every trainer of these models reads."""

from typing import Any

from m3core.train.records import Example


def bge_record(example: Example) -> dict[str, Any]:
    """The record as an object of BGE's JSON lines, without what it does not have."""
    record: dict[str, Any] = {"query": example.query, "pos": list(example.positives)}
    if example.negatives:
        record["neg"] = list(example.negatives)
    if example.scores:
        split = len(example.positives)
        record["pos_scores"], record["neg_scores"] = list(example.scores[:split]), list(example.scores[split:])
    if example.prompt:
        record["prompt"] = example.prompt
    if example.kind:
        record["type"] = example.kind
    return record
