"""A small model from scratch, fine-tuned with RetroMAE before it and without. A seed for each process."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from m3core import M3Encoder
from m3core.evaluation import measure
from m3core.train import FineTuner, RetroMAE

STEPS, RATE = 2000, 4e-3
LABELLED = 512
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Comparison:
    """Of one seed: held-out losses before and after pre-training, and each query's nDCG@10 without it and with it."""

    first: dict[str, float]
    last: dict[str, float]
    without: np.ndarray
    with_it: np.ndarray


def compare(seed: int, folder: Path, tokenizer: Tokenizer, held_out: Pairs, rest: Pairs) -> Comparison:
    """Pre-trains on the texts of `rest` and fine-tunes on some of its pairs, on one thread."""
    torch.set_num_threads(1)
    untrained = save_untrained(folder / "untrained", tokenizer, seed)
    texts, dev = [text for _, text in rest], [text for _, text in held_out[:200]]
    retro = RetroMAE.from_pretrained(untrained, dataset=texts, dev=dev, device="cpu", dtype="float32")
    pretrained = retro.run(
        output=folder / "pretrained",
        steps=STEPS,
        batch_tokens=1024,
        learning_rate=RATE,
        warmup=0.05,
        evaluations=1,
        seed=seed,
        show_progress=False,
    )
    first, last = (entry for entry in pretrained.history if "eval_loss" in entry)
    without, with_it = (
        quality(fine_tuned(model, folder / name, rest[:LABELLED], seed), held_out)
        for model, name in ((untrained, "without"), (pretrained.directory, "with"))
    )
    return Comparison(first, last, without, with_it)


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
