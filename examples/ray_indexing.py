"""Indexing on a Ray cluster: its processes encode, this one stores. Run again, it encodes only what is new or changed.

pip install 'm3-retrieval[ray,qdrant]'
python examples/ray_indexing.py                                      # a cluster of this machine, for the run
python examples/ray_indexing.py --address auto                       # the one that this machine belongs to
python examples/ray_indexing.py --path ./index docs/                 # a folder of yours, kept on disk
"""

import argparse
from pathlib import Path

from m3core import M3Encoder
from m3stores import QdrantStore, TextIndex
from m3stores.pipeline import index

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"


def main() -> None:
    """Indexes twice, and searches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, default=CORPUS, help="a file, or a folder of documents")
    parser.add_argument("--address", default="local", help="of a cluster: local, auto or host:port")
    parser.add_argument("--model", default="m3-mini", help="BAAI/bge-m3 where there is a network")
    parser.add_argument("--path", type=Path, help="a directory to keep the collection in")
    parser.add_argument("--query", default="谁来监督算法？")
    options = parser.parse_args()

    encoder = M3Encoder(options.model)
    with QdrantStore("m3-example-ray", path=options.path) as store:  # with url=, the cluster's processes store as well
        for run in ("first", "second"):
            done = index(options.source, encoder, store, modes=["dense", "sparse"], ray=options.address)
            print(
                f"{run} run: {done.documents} documents, {done.passages} passages, {done.encoded} encoded, "
                f"{done.unchanged} unchanged, {done.rejected} rejected, {done.seconds:.1f} s"
            )
        print(f"\n{options.query}")
        for hit in TextIndex(encoder, store).search([options.query], k=3)[0]:
            print(f"  {hit.score:.3f}  {hit.id}: {hit.text[:40]}…")


if __name__ == "__main__":  # Ray's processes import this file
    main()
