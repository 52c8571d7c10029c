"""Cross-encoders as teachers, with a tiny random one."""

from pathlib import Path

import pytest
import torch
from tiny import save_m3
from transformers import AutoModelForSequenceClassification, AutoTokenizer, XLMRobertaConfig

from m3core import InvalidInput, InvalidModel, ModelNotFound, TruncationWarning
from m3core.train.making.teachers import CrossEncoder

PAIRS = [("the one", "a b c"), ("中国", "是不是来了？ " * 5), ("me", "you"), ("the one", "one, two! 3 4 5 到")]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("reranker"), labels=1)


def save_classifier(folder: Path, *, labels: int) -> Path:
    save_m3(folder, heads=False)
    torch.manual_seed(1)
    config = XLMRobertaConfig.from_pretrained(folder, num_labels=labels)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def test_scores_are_the_logits_of_each_pair_by_itself(reranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3core.train.making.teachers._BATCH_TOKENS", 40)  # several batches
    scores = CrossEncoder(reranker, device="cpu", max_length=64)(PAIRS)
    model = AutoModelForSequenceClassification.from_pretrained(reranker).eval()
    tokenizer = AutoTokenizer.from_pretrained(reranker)
    for (query, passage), score in zip(PAIRS, scores, strict=True):
        with torch.no_grad():
            logit = model(**tokenizer(query, passage, return_tensors="pt")).logits
        assert score == pytest.approx(logit.item(), abs=1e-5)
    assert len(set(scores)) == len(PAIRS)


def test_no_pairs(reranker: Path) -> None:
    assert CrossEncoder(reranker, device="cpu")([]) == []


def test_what_is_cut_is_counted(reranker: Path) -> None:
    with pytest.warns(TruncationWarning, match="1 of 4 pairs were longer than 32 tokens"):
        scores = CrossEncoder(reranker, device="cpu", max_length=32)(PAIRS)
    assert len(scores) == len(PAIRS)


def test_a_model_that_scores_no_pairs_is_refused(m3_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="does not score pairs"):
        CrossEncoder(m3_dir, device="cpu")  # its classifier would be random
    with pytest.raises(InvalidModel, match="one label"):
        CrossEncoder(save_classifier(tmp_path, labels=3), device="cpu")


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        CrossEncoder(tmp_path / "none")
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        CrossEncoder(tmp_path, device="cpu")
    with pytest.raises(InvalidInput, match="max_length"):
        CrossEncoder(tmp_path, max_length=3)
