"""Hybrid retrieval in Qdrant: one collection searched in five ways, with a filter, and why a passage came first.

python examples/hybrid_qdrant.py                                   # Qdrant's engine in this process, no server
python examples/hybrid_qdrant.py "谁来监督算法？" --side con
python examples/hybrid_qdrant.py --url http://localhost:6333       # a server, 1.16 or later; the collection stays there
"""

import argparse
from pathlib import Path
from typing import Any

from m3core import M3Encoder
from m3core.records import read_records
from m3stores import RRF, Hit, HybridStore, QdrantStore

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
QUESTIONS = [
    "“少睡47分钟”这个数据出自哪家机构、怎么测的？",  # a figure, which the sparse mode finds and the dense one does not
    "Why can't a program serve as a moral role model for pupils?",  # no word in common: sparse scores are noise
]
WAYS: dict[str, dict[str, Any]] = {
    "dense": {"modes": ["dense"]},
    "sparse": {"modes": ["sparse"]},
    "weighted": {},  # dense and sparse, by the weighted sum with the model's own weights
    "rrf": {"fusion": RRF()},  # the same two by their ranks alone, so that noise counts as much as a match
    "reranked": {"rerank": True},  # weighted, and multi-vectors score what the two have found
}


def compare(store: HybridStore, encoder: M3Encoder, question: str, side: str | None) -> None:
    """Prints what each way finds, and the parts that the scores of their first hits are made of."""
    query = encoder.encode_queries([question])  # one forward pass for all modes
    where = {"side": side} if side else None  # or {"year": {"$gte": 2020}, "$or": [...]}: see m3stores.filters
    found = {way: store.search(query, k=3, filter=where, **how)[0] for way, how in WAYS.items()}

    print(f"\n{question}\n" + "".join(f"  {way:20}" for way in found))
    for rank in range(3):
        print("".join(f"  {hits[rank].id if rank < len(hits) else '-':20}" for hits in found.values()))
    for way in ("weighted", "rrf", "reranked"):
        if found[way]:
            explain(way, found[way][0])


def explain(way: str, hit: Hit) -> None:
    """Prints the score and the rank of a hit by each mode, and the share of the fused score that this gives it."""
    print(f"  {way}: {hit.id} has {hit.score:.4f}: {hit.text[:30]}…")
    for mode, score in hit.scores.items():
        print(f"    {mode:11}  score {score:7.4f}, rank {hit.ranks[mode]:2}, adds {hit.shares[mode]:.4f}")


def main() -> None:
    """Stores the debate corpus and searches it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--model", default="m3-mini", help="BAAI/bge-m3 where there is a network")
    parser.add_argument("--side", choices=["pro", "con"], help="only arguments of this side")
    parser.add_argument("--url", help="of a Qdrant server; without it the collection is temporary")
    options = parser.parse_args()

    encoder = M3Encoder(options.model)
    records = list(read_records(CORPUS))  # Record(id, text, metadata)
    with QdrantStore("m3-example-debate", url=options.url) as store:  # path="./index" would keep it on this disk
        store.upsert(records, encoder.encode_documents([record.text for record in records]))
        print(f"{store.count()} passages, {store.count({'side': 'pro'})} of them for a motion")
        for question in options.questions:
            compare(store, encoder, question, options.side)


if __name__ == "__main__":
    main()
