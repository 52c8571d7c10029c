"""Three debate questions, answered from the debate corpus by hybrid retrieval with the bundled model. No network."""

import json
from pathlib import Path

from m3core import M3Encoder, WeightedSum, fuse
from m3core.scoring import mode_scores

QUESTIONS = [
    "边屿县2021年有几名专任物理教师，后来课时是怎么开足的？",  # a name and a year: the lexical leg finds it
    "窄胡同里燃起烈焰，施救人员赶得到吗？",  # hardly a word of the passage's own: the dense leg
    "Would checking everyone's age put adults' personal data at risk?",  # an English question over Chinese passages
]

lines = (Path(__file__).parent / "data" / "debate" / "corpus.jsonl").read_text("utf-8").splitlines()
passages = [json.loads(line) for line in lines]

encoder = M3Encoder("m3-mini")
documents = encoder.encode_documents([p["text"] for p in passages], show_progress=True)
queries = encoder.encode_queries(QUESTIONS)

by_mode = {mode: mode_scores(queries, documents, mode) for mode in encoder.modes}  # (questions, passages) each
hybrid = fuse(by_mode, WeightedSum(*encoder.score_weights))  # the same as queries.score(documents)
for q, question in enumerate(QUESTIONS):
    print(f"\n{question}")
    for d in hybrid[q].argsort()[::-1][:2]:
        about = passages[d]["metadata"]
        parts = ", ".join(f"{mode} {scores[q, d]:.3f}" for mode, scores in by_mode.items())
        print(f"  {hybrid[q, d]:.3f} ({parts})  {passages[d]['_id']}: {about['motion']}, {about['side']}")
        print(f"  {passages[d]['text']}")
