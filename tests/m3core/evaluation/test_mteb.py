"""With tasks made here: mteb's own runner, no network."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged import judged_set
from scipy.stats import spearmanr
from tiny import save_m3e

from m3core import InvalidInput, M3Encoder
from m3core.evaluation import evaluate

mteb = pytest.importorskip("mteb")

from datasets import Dataset, DatasetDict  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from m3core.evaluation.mteb import M3ForMteb  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = [
    f"{a} the {b} of {c} ing 中国" for a, b, c in zip(LETTERS, LETTERS[7:] + LETTERS, LETTERS[3:] * 2, strict=False)
]
JUDGED = judged_set(
    {f"d{i}": text for i, text in enumerate(TEXTS)},
    {f"q{i}": text.replace("the", "to").replace("中国", "上到") for i, text in enumerate(TEXTS[:12])},
    {f"q{i}": {f"d{i}": 1} for i in range(12)},
)


def described(name: str, kind: str, score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=score,
        description="Made for a test.",
        reference=None,
        dataset={"path": "made/here", "revision": "1"},
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-01"),
        dialect=[],
        domains=[],
        task_subtypes=[],
        license="mit",
        annotations_creators="derived",
        sample_creation="created",
        bibtex_citation="",
    )


class Retrieval(AbsTaskRetrieval):
    metadata = described("MadeRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, **kwargs: Any) -> None:
        corpus, queries = JUDGED.corpus, JUDGED.queries
        split = {
            "corpus": Dataset.from_list(
                [{"id": i, "title": "", "text": t} for i, t in zip(corpus.ids, corpus.texts, strict=True)]
            ),
            "queries": Dataset.from_list(
                [{"id": i, "text": t} for i, t in zip(queries.ids, queries.texts, strict=True)]
            ),
            "relevant_docs": JUDGED.qrels,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class Similarity(AbsTaskSTS):
    metadata = described("MadeSTS", "STS", "cosine_spearman")
    min_score, max_score = 0, 5

    def load_data(self, **kwargs: Any) -> None:
        pairs = {"sentence1": TEXTS[:10], "sentence2": TEXTS[3:13], "score": [float(i % 6) for i in range(10)]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(pairs)})
        self.data_loaded = True


def score(encoder: M3Encoder, task: Any) -> float:
    (result,) = mteb.evaluate(M3ForMteb(encoder), task, cache=None, show_progress_bar=False, co2_tracker=False)
    return float(result.get_score())


def test_retrieval_is_what_our_own_evaluation_finds(tiny_m3: M3Encoder) -> None:
    expected = evaluate(tiny_m3, JUDGED, metrics=["nDCG@10"], bm25=False).mean("dense")
    assert score(tiny_m3, Retrieval()) == pytest.approx(expected, abs=1e-4)
    assert 0.2 < expected < 0.95


def test_queries_have_the_instruction_and_documents_have_not(m3_dir: Path) -> None:
    instructed = M3Encoder(m3_dir, dtype="float32", device="cpu", instruction="9 8 7 6 5 4 3 2 1: ")
    expected = evaluate(instructed, JUDGED, metrics=["nDCG@10"], bm25=False).mean("dense")
    assert score(instructed, Retrieval()) == pytest.approx(expected, abs=1e-4)
    plain = M3Encoder(m3_dir, dtype="float32", device="cpu")
    assert expected != pytest.approx(score(plain, Retrieval()), abs=1e-3)


@pytest.mark.parametrize("normalize", [True, False])
def test_similarity_of_sentences_is_the_cosine_of_documents(normalize: bool, tmp_path: Path) -> None:
    encoder = M3Encoder(save_m3e(tmp_path, normalize=normalize), dtype="float32", device="cpu", instruction="5 ")
    one, other = (encoder.encode_documents(texts).dense for texts in (TEXTS[:10], TEXTS[3:13]))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    expected = spearmanr(cosines, [float(i % 6) for i in range(10)]).statistic
    assert score(encoder, Similarity()) == pytest.approx(expected, abs=1e-4)


def test_what_mteb_is_told_is_true(tiny_m3: M3Encoder, mini: M3Encoder, m3_dir: Path) -> None:
    meta = M3ForMteb(tiny_m3).mteb_model_meta
    assert meta.name == f"local/{m3_dir.name}"
    assert meta.revision == tiny_m3.fingerprint.revision
    assert (meta.max_tokens, meta.embed_dim) == (tiny_m3.max_length, 32)
    assert (meta.use_instructions, meta.similarity_fn_name) == (False, "cosine")
    assert meta.license is meta.training_datasets is meta.n_parameters is None
    assert meta.experiment_kwargs == {"runtime": "m3-retrieval", "engine": tiny_m3.engine, "dtype": "float32"}
    bundled = M3ForMteb(mini).mteb_model_meta
    assert (bundled.name, bundled.adapted_from) == ("m3-retrieval/m3-mini", "intfloat/multilingual-e5-small")
    assert M3ForMteb(mini, name="me/mini").mteb_model_meta.name == "me/mini"
    shorter = M3Encoder(m3_dir, dtype="float32", device="cpu", max_length=20)
    assert M3ForMteb(shorter).mteb_model_meta.experiment_kwargs["max_length"] == 20


def test_of_a_model_from_the_hub_mteb_is_told_what_it_knows_itself(m3_dir: Path) -> None:
    encoder = M3Encoder(m3_dir, dtype="float32", device="cpu")
    encoder.fingerprint = replace(encoder.fingerprint, model="BAAI/bge-m3", revision="0123abc")
    meta = M3ForMteb(encoder).mteb_model_meta
    assert (meta.name, meta.revision, meta.license, meta.embed_dim) == ("BAAI/bge-m3", "0123abc", "mit", 32)
    assert "MIRACLRetrieval" in meta.training_datasets
    assert meta.loader is None  # the one listed there is another library's


def test_what_cannot_be_run_is_named(tiny_m3: M3Encoder) -> None:
    with pytest.raises(InvalidInput, match="such as me/mini, not 'mini'"):
        M3ForMteb(tiny_m3, name="mini")
    model, about = (
        M3ForMteb(tiny_m3),
        {"task_metadata": Similarity.metadata, "hf_split": "test", "hf_subset": "default"},
    )
    with pytest.raises(InvalidInput, match=r"MadeSTS has no texts but \['image'\]"):
        model.encode([{"image": [None]}], **about)
    with pytest.raises(InvalidInput, match="leave out precision='int8'"):
        model.encode([{"text": ["a"]}], precision="int8", **about)


def test_without_mteb_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['mteb'] = None; import m3core.evaluation.mteb"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency: running MTEB needs mteb 2: pip install 'm3-retrieval[mteb]'" in done.stderr
