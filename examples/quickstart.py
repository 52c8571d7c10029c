"""Indexes the debate corpus on disk and answers three questions, with the bundled model. No network, no server."""

from pathlib import Path

from m3core import M3Encoder
from m3core.records import read_records
from m3stores import QdrantStore, TextIndex

QUESTIONS = [
    "边屿县2021年有几名专任物理教师，后来课时是怎么开足的？",  # a name and a year: the lexical leg finds it
    "窄胡同里燃起烈焰，施救人员赶得到吗？",  # hardly a word of the passage's own: the dense leg
    "Would checking everyone's age put adults' personal data at risk?",  # an English question over Chinese passages
]
HERE = Path(__file__).parent

passages = list(read_records(HERE / "data" / "debate" / "corpus.jsonl"))
with QdrantStore("debate", path=HERE / "index") as store:
    index = TextIndex(M3Encoder("m3-mini"), store)
    if store.count() < len(passages):  # the second time, they are there
        index.add(passages, show_progress=True)
    print(f"{store.count()} passages in {HERE / 'index'}")
    for question, hits in zip(QUESTIONS, index.search(QUESTIONS, k=2), strict=True):
        print(f"\n{question}")
        for hit in hits:
            parts = ", ".join(f"{mode} {score:.3f}" for mode, score in hit.scores.items())
            print(f"  {hit.score:.3f} ({parts})  {hit.id}: {hit.metadata['motion']}, {hit.metadata['side']}")
            print(f"  {hit.text}")
