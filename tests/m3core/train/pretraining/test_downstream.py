"""What RetroMAE is for: a model from scratch retrieves better after the same fine-tuning. Needs `M3_TRAIN_PAIRS`.

That names a file in BGE's format, compressed: headings of documentation and what stands below them.
"""

import gzip
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from from_scratch import Pairs, compare
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from m3core.evaluation import bootstrap_interval

pytestmark = pytest.mark.slow
HELD_OUT = 1000
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """English headings with their texts, each of either once, in a random order."""
    path = os.environ.get("M3_TRAIN_PAIRS")
    if not path:
        pytest.skip("M3_TRAIN_PAIRS names no training data")
    seen: set[str] = set()
    kept = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            pair = record["query"], record["pos"][0]
            if record["lang"] == "en" and len(pair[1]) > 30 and not seen & set(pair):
                seen |= set(pair)
                kept.append(pair)
    return [kept[i] for i in np.random.default_rng(0).permutation(len(kept))]


@pytest.fixture(scope="module")
def tokenizer(pairs: Pairs) -> Tokenizer:
    """An XLM-R-like one of 2,000 pieces, made from the texts that are not held out."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    trainer = trainers.UnigramTrainer(vocab_size=2000, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([text for pair in pairs[HELD_OUT:] for text in pair], trainer)
    scores = dict(json.loads(made.to_str())["model"]["vocab"])
    pieces = [*SPECIAL, *sorted(scores.keys() - set(SPECIAL))]  # the trainer's order is another in each run
    made.model = models.Unigram([(piece, round(scores[piece], 2)) for piece in pieces], SPECIAL.index("<unk>"))
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return made


def test_pre_training_helps_what_comes_after_it(pairs: Pairs, tokenizer: Tokenizer, tmp_path: Path) -> None:
    held_out, rest = pairs[:HELD_OUT], pairs[HELD_OUT:]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        jobs = [pool.submit(compare, seed, tmp_path / str(seed), tokenizer, held_out, rest) for seed in range(3)]
        seeds = [job.result() for job in jobs]
    for seed, one in enumerate(seeds):
        for name in ("eval_encoder_loss", "eval_decoder_loss"):
            assert one.last[name] < one.first[name] - 1.5
        low, high = bootstrap_interval(one.with_it - one.without)
        losses = f"held-out losses {one.last['eval_encoder_loss']:.2f}, {one.last['eval_decoder_loss']:.2f}"
        gain = f"{one.without.mean():.4f} -> {one.with_it.mean():.4f} ({low:+.4f} to {high:+.4f})"
        print(f"seed {seed}: {losses}; nDCG@10 {gain}")
        assert low > 0
