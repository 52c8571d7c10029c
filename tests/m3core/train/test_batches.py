"""Which records come together, and what a batch makes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3core.tokenizer import M3Tokenizer
from m3core.train.batches import BYTES_PER_TOKEN, Batches
from m3core.train.collating import Batch, Collator
from m3core.train.data import TrainingData

PAIRS = [{"query": f"q{i}", "pos": ["a" * (1 + 7 * i % 90)]} for i in range(101)]


@pytest.fixture
def tokenizer(m3_dir: Path) -> M3Tokenizer:
    return M3Tokenizer.from_directory(m3_dir)


def data(folder: Path, **sources: list[dict[str, Any]]) -> TrainingData:
    return TrainingData.write(sources, folder)


def keys(batches: Batches) -> list[list[tuple[int, int]]]:
    return [[(place.part, place.index) for place in batch] for batch in batches]


@pytest.mark.parametrize("tokens", [None, 60, 5])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_record_comes_once_in_each_epoch(tmp_path: Path, tokens: int | None, processes: int) -> None:
    made = data(tmp_path, one=PAIRS, two=PAIRS[:31])
    batches = Batches(made.parts, 12, batch_tokens=tokens, processes=processes)
    seen = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        found = keys(batches)
        assert len(found) == len(batches)
        assert all(len(batch) <= 12 and len(batch) % processes == 0 for batch in found)
        assert all(len({part for part, _ in batch}) == 1 for batch in found)
        places = [key for batch in found for key in batch]
        assert len(set(places)) == len(places)
        assert len(places) >= 132 - 2 * (processes - 1)
        seen.append(found)
    assert seen[0] != seen[1] != seen[2]
    batches.set_epoch(1)
    assert keys(batches) == seen[1]


def test_records_of_similar_length_come_together_under_a_budget(tmp_path: Path) -> None:
    made = data(tmp_path, one=PAIRS)
    lengths = made.parts[0].lengths(0)
    batches = Batches(made.parts, 50, batch_tokens=60)
    spans = [np.array([lengths[index] for _, index in batch]) for batch in keys(batches)]
    assert np.mean([span.std() for span in spans]) < 0.5 * lengths.std()
    assert max(span.sum() for span in spans if len(span) > 1) <= 1.3 * 60 * BYTES_PER_TOKEN
    assert max(map(len, spans)) > 2 * min(map(len, spans))


def test_batches_without_a_budget_are_even(tmp_path: Path) -> None:
    sizes = [len(batch) for batch in Batches(data(tmp_path, one=PAIRS).parts, 25)]
    assert sorted(sizes) == [20, 20, 20, 20, 21]


def collated(folder: Path, tokenizer: M3Tokenizer, records: list[dict[str, Any]], **options: Any) -> Batch:
    made = data(folder, **{options.pop("name", "data"): records})
    (places,) = Batches(made.parts, len(records), seed=1)
    places.sort(key=lambda place: place.index)
    return Collator(made, tokenizer, 32, **{"negatives": 7, **options})(places)


def texts(tokenizer: M3Tokenizer, ids: list[Any]) -> list[str]:
    return ["".join(map(tokenizer._tokenizer.id_to_token, own[1:-1])).replace("▁", "") for own in ids]


def test_passages_that_answer_another_query_are_no_negatives_of_it(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    records = [
        {"query": "a", "pos": ["11"], "neg": ["2222"]},
        {"query": "bb", "pos": ["2222", "333333"]},
        {"query": "ccc", "pos": ["11"]},
        {"query": "dddd", "pos": ["44444444"], "neg": ["a"]},
    ]
    batch = collated(tmp_path, tokenizer, records)
    passages, queries = texts(tokenizer, batch.passages), texts(tokenizer, batch.queries)
    assert sorted(passages) == sorted(set(passages))  # each once
    allowed = {
        query: {text for text, counts in zip(passages, row, strict=True) if counts}
        for query, row in zip(queries, batch.allowed, strict=True)
    }
    positive = {query: passages[place] for query, place in zip(queries, batch.own[:, 0], strict=True)}
    assert positive["a"] == positive["ccc"] == "11"
    assert allowed["a"] == {"11", "2222", "44444444"} - {"a"} | ({"333333"} & set(passages))
    assert len(allowed["bb"] & {"2222", "333333"}) == 1
    assert "a" in allowed["ccc"]
    assert positive.keys() == allowed.keys() == {"a", "bb", "ccc", "dddd"}


def test_the_same_query_with_two_positives(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    records = [{"query": "a", "pos": ["1"], "neg": ["22"]}, {"query": "a", "pos": ["22"]}, {"query": "b", "pos": ["3"]}]
    batch = collated(tmp_path, tokenizer, records)
    passages, queries = texts(tokenizer, batch.passages), texts(tokenizer, batch.queries)
    for query, row, own in zip(queries, batch.allowed, batch.own, strict=True):
        counted = {text for text, counts in zip(passages, row, strict=True) if counts}
        assert counted == ({passages[own[0]], "3"} if query == "a" else {"1", "22", "3"})


def test_data_whose_negatives_are_their_own(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    records = [{"query": "a", "pos": ["1"], "neg": ["22"]}, {"query": "b", "pos": ["3"], "neg": ["44", "55"]}]
    for number, options in enumerate(({"name": "x_no_in_batch_neg.jsonl"}, {"kind": "no_in_batch_neg"})):
        (tmp_path / str(number)).mkdir()
        kind = {"type": options.pop("kind")} if "kind" in options else {}
        batch = collated(tmp_path / str(number), tokenizer, [r | kind for r in records], **options)
        assert batch.allowed.sum(1).tolist() == [2, 3] or batch.allowed.sum(1).tolist() == [3, 2]


def test_a_teachers_scores_go_with_their_passages(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    scores = {"1": 9.0, "22": 1.0, "33": 2.0, "4": 8.0, "55": 3.0}
    records = [{"query": "a", "pos": ["1"], "neg": ["22", "33"]}, {"query": "b", "pos": ["4"], "neg": ["55"]}]
    for record in records:
        record |= {"pos_scores": [scores[t] for t in record["pos"]], "neg_scores": [scores[t] for t in record["neg"]]}
    batch = collated(tmp_path, tokenizer, records)
    passages = texts(tokenizer, batch.passages)
    assert batch.teacher.shape == batch.own.shape == (2, 2)
    for own, given in zip(batch.own, batch.teacher, strict=True):
        assert [scores[passages[place]] for place in own] == given.tolist()


def test_prompts(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    records = [
        {"query": "a", "pos": ["1"]},
        {"query": "b", "pos": ["2"], "prompt": "me "},
        {"query": "c", "pos": ["3"], "type": "symmetric_sts"},
    ]
    batch = collated(tmp_path, tokenizer, records, prompt="you ")
    assert sorted(texts(tokenizer, batch.queries)) == ["meb", "youa", "youc"]
    assert sorted(texts(tokenizer, batch.passages)) == ["1", "2", "you3"]


def test_one_negative_and_as_many_as_wanted(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    negatives = {"neg": ["1", "2", "3", "4"]}
    records = [
        {"query": "a", "pos": ["a1"], **negatives},
        {"query": "b", "pos": ["b1"], "type": "only_1neg", **negatives},
    ]
    (tmp_path / "x").mkdir()
    assert len(collated(tmp_path / "x", tokenizer, records, negatives=0).passages) == 2
    assert 2 + 3 <= len(collated(tmp_path, tokenizer, records, negatives=3).passages) <= 2 + 4


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_processes_are_the_batch(tmp_path: Path, tokenizer: M3Tokenizer, processes: int) -> None:
    records = [{"query": f"q{i}", "pos": [f"p{i}", f"r{i}"], "neg": [f"n{i % 3}"]} for i in range(6)]
    whole = collated(tmp_path, tokenizer, records)
    shares = []
    for process in range(processes):
        (tmp_path / str(process)).mkdir()
        share = collated(tmp_path / str(process), tokenizer, records, process=process, processes=processes)
        shares.append(share)
    passages = [text for share in shares for text in texts(tokenizer, share.passages)]
    assert sorted(passages) == sorted(texts(tokenizer, whole.passages))

    def pairs(batch: Batch, among: list[str]) -> dict[str, tuple[str, frozenset[str]]]:
        return {
            query: (among[own[0]], frozenset(text for text, counts in zip(among, row, strict=True) if counts))
            for query, own, row in zip(texts(tokenizer, batch.queries), batch.own, batch.allowed, strict=True)
        }

    together = {query: pair for share in shares for query, pair in pairs(share, passages).items()}
    assert together == pairs(whole, texts(tokenizer, whole.passages))


def test_a_share_has_a_passage_even_if_there_is_none_left(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    records = [{"query": "a", "pos": ["1"]}, {"query": "b", "pos": ["1"]}]
    shares = []
    for process in range(2):
        (tmp_path / str(process)).mkdir()
        shares.append(collated(tmp_path / str(process), tokenizer, records, process=process, processes=2))
    assert [len(share.passages) for share in shares] == [1, 1]
    assert all(share.allowed.sum() == 1 for share in shares)


def test_what_is_drawn_changes_with_the_epoch(tmp_path: Path, tokenizer: M3Tokenizer) -> None:
    made = data(tmp_path, one=[{"query": "q", "pos": [str(i) for i in range(50)]}])
    batches = Batches(made.parts, 1)
    collator = Collator(made, tokenizer, 32, 0)
    drawn = []
    for epoch in (0, 1, 2, 0):
        batches.set_epoch(epoch)
        drawn += texts(tokenizer, collator(next(iter(batches))).passages)
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) > 1
