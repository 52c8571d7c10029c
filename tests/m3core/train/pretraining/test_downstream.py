"""What RetroMAE is for: a model from scratch retrieves better after the same fine-tuning. Needs `M3_TRAIN_PAIRS`.

That names a file in BGE's format, compressed: headings of documentation and what stands below them.
"""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from m3core import M3Encoder
from m3core.evaluation import bootstrap_interval, measure
from m3core.train import FineTuner, RetroMAE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::m3core.errors.TruncationWarning")]
HELD_OUT, LABELLED = 1000, 512
STEPS, RATE = 2000, 4e-3
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
Pairs = list[tuple[str, str]]


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
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return made


def save_untrained(folder: Path, tokenizer: Tokenizer, seed: int) -> Path:
    """A random XLM-R of 2 layers with CLS pooling; weights are spread as its small width needs."""
    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=66,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        initializer_range=0.1,
    )
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    (folder / "m3.json").write_text('{"pooling": "cls"}')
    return folder


def quality(folder: Path, pairs: Pairs) -> np.ndarray:
    """nDCG@10 of each heading among the texts of all."""
    encoder = M3Encoder(folder, dtype="float32", device="cpu")
    queries, texts = ([pair[side] for pair in pairs] for side in (0, 1))
    scores = (
        encoder.encode_queries(queries, max_length=64).dense @ encoder.encode_documents(texts, max_length=64).dense.T
    )
    best = np.argsort(-scores, axis=1)[:, :10]
    run = {str(i): {str(j): float(scores[i, j]) for j in row} for i, row in enumerate(best)}
    return measure(run, {str(i): {str(i): 1} for i in range(len(pairs))}, list(run), ["nDCG@10"])["nDCG@10"]


def fine_tuned(folder: Path, output: Path, pairs: Pairs, seed: int) -> Path:
    records = [{"query": heading, "pos": [text]} for heading, text in pairs]
    tuner = FineTuner.from_pretrained(
        folder, dataset=records, dev=False, device="cpu", dtype="float32", show_progress=False
    )
    return tuner.run(
        output=output, epochs=10, learning_rate=1e-3, temperature=0.05, seed=seed, show_progress=False
    ).directory


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pre_training_helps_what_comes_after_it(pairs: Pairs, tokenizer: Tokenizer, tmp_path: Path, seed: int) -> None:
    held_out, rest = pairs[:HELD_OUT], pairs[HELD_OUT:]
    labelled = rest[:LABELLED]
    untrained = save_untrained(tmp_path / "untrained", tokenizer, seed)
    texts = [text for _, text in rest]
    retro = RetroMAE.from_pretrained(
        untrained, dataset=texts, dev=[text for _, text in held_out[:200]], device="cpu", dtype="float32"
    )
    pretrained = retro.run(
        output=tmp_path / "pretrained",
        steps=STEPS,
        batch_tokens=1024,
        learning_rate=RATE,
        warmup=0.05,
        evaluations=1,
        seed=seed,
        show_progress=False,
    )
    first, last = (entry for entry in pretrained.history if "eval_loss" in entry)
    for name in ("eval_encoder_loss", "eval_decoder_loss"):
        assert last[name] < first[name] - 1.5
    without = quality(fine_tuned(untrained, tmp_path / "without", labelled, seed), held_out)
    with_it = quality(fine_tuned(pretrained.directory, tmp_path / "with", labelled, seed), held_out)
    low, high = bootstrap_interval(with_it - without)
    losses = f"held-out losses {last['eval_encoder_loss']:.2f}, {last['eval_decoder_loss']:.2f}"
    print(f"seed {seed}: {losses}; nDCG@10 {without.mean():.4f} -> {with_it.mean():.4f} ({low:+.4f} to {high:+.4f})")
    assert low > 0
