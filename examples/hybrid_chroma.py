"""Hybrid retrieval in Chroma, in this process: what hybrid_qdrant.py does, by the same calls.

What is different: Chroma itself searches dense vectors only, so the search by sparse vectors is ours, exact and in this
process's memory (about 3 kB a passage), and multi-vectors lie in an SQLite file beside Chroma's own.

python examples/hybrid_chroma.py                                   # in a temporary directory
python examples/hybrid_chroma.py "谁来监督算法？" --side con --path ./chroma
"""

import argparse
from pathlib import Path
from typing import Any

from m3core import M3Encoder
from m3core.records import read_records
from m3stores import RRF, ChromaStore

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"
WAYS: dict[str, dict[str, Any]] = {
    "dense": {"modes": ["dense"]},
    "sparse": {"modes": ["sparse"]},
    "weighted": {},
    "rrf": {"fusion": RRF()},
    "reranked": {"rerank": True},
}


def main() -> None:
    """Stores the debate corpus and searches it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="“少睡47分钟”这个数据出自哪家机构、怎么测的？")
    parser.add_argument("--model", default="m3-mini", help="BAAI/bge-m3 where there is a network")
    parser.add_argument("--side", choices=["pro", "con"], help="only arguments of this side")
    parser.add_argument("--path", type=Path, help="a directory to keep the collection in")
    options = parser.parse_args()

    encoder = M3Encoder(options.model)
    records = list(read_records(CORPUS))
    with ChromaStore("m3-example-debate", path=options.path) as store:
        missing = store.compare(records).differing  # all of them, or none where --path has them from an earlier run
        store.upsert(missing, encoder.encode_documents([record.text for record in missing]))
        print(f"{store.count()} passages, {len(missing)} of them encoded now\n\n{options.question}")
        query = encoder.encode_queries([options.question])
        for way, how in WAYS.items():
            print(f"  {way}")
            for hit in store.search(query, k=2, filter={"side": options.side} if options.side else None, **how)[0]:
                modes = ", ".join(f"{mode} {score:.3f} (rank {hit.ranks[mode]})" for mode, score in hit.scores.items())
                print(f"    {hit.score:.4f}  {hit.id}: {modes}")


if __name__ == "__main__":
    main()
