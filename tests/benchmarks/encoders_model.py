"""A model directory of bge-m3's shape with random weights, that all benchmarked systems can read."""

import json
import shutil
from pathlib import Path

import torch
from encoders_texts import ROOT, SEED
from tokenizers import Tokenizer
from transformers import XLMRobertaConfig, XLMRobertaModel
from transformers.utils import logging

MINI = ROOT / "m3core" / "mini"
HIDDEN, MAX_LENGTH = 1024, 8192


def read_tokenizer() -> Tokenizer:
    """The tokenizer of the model, without truncation and padding."""
    tokenizer = Tokenizer.from_file(str(MINI / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def build_model(directory: Path, layers: int) -> int:
    """Writes the model: bge-m3's width, positions, heads and modules, with fewer layers and the small vocabulary.

    Returns:
        The number of the body's parameters.
    """
    torch.manual_seed(SEED)
    config = XLMRobertaConfig(
        vocab_size=read_tokenizer().get_vocab_size(),
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=MAX_LENGTH + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    logging.disable_progress_bar()
    model = XLMRobertaModel(config)
    model.save_pretrained(directory)
    for name, width in (("sparse_linear", 1), ("colbert_linear", HIDDEN)):
        torch.save(torch.nn.Linear(HIDDEN, width, dtype=torch.float16).state_dict(), directory / f"{name}.pt")
    shutil.copy(MINI / "tokenizer.json", directory)
    settings = json.loads((MINI / "tokenizer_config.json").read_text(encoding="utf-8"))
    _write(directory / "tokenizer_config.json", settings | {"model_max_length": MAX_LENGTH})
    _write(directory / "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})
    modules = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    _write(
        directory / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
    )
    (directory / "2_Normalize").mkdir()
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    _write(directory / "1_Pooling" / "config.json", pooling)
    return sum(p.numel() for p in model.parameters())


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
