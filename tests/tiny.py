"""Random tiny models and tokenizers, made in code: milliseconds to build, no network."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

CHARACTERS = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?的一是不了人我在有他这中大来上国个到说们为子和你地")
WORDS = ["▁the", "▁of", "ing", "er", "tion", "中国", "▁me"]

ZH_EN = ["the meaning of it", "中国人说的", "a", "one, two! 3 4 5 到", "you 你 me 我", "是不是来了？ 是不是来了？", ""]


def unigram() -> Tokenizer:
    """An XLM-R-like tokenizer of about 80 pieces."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *WORDS, *CHARACTERS]
    tokenizer = Tokenizer(models.Unigram([(p, -float(i % 7) - 3) for i, p in enumerate(pieces)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def save_m3(
    folder: Path,
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: bool = True,
    positions: int = 130,
    multivector_dim: int | None = None,
    dropout: float = 0.1,
    seed: int = 0,
) -> Path:
    """A random XLM-R with BGE-M3's two head files, in FlagEmbedding's layout."""
    torch.manual_seed(seed)
    tokenizer = unigram()
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    rest = {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **rest).save_pretrained(folder)
    if heads:
        torch.save({"weight": torch.randn(1, hidden), "bias": torch.randn(1)}, folder / "sparse_linear.pt")
        out = multivector_dim or hidden
        torch.save({"weight": torch.randn(out, hidden), "bias": torch.randn(out)}, folder / "colbert_linear.pt")
    return folder


def save_own(folder: Path, *, dense: int | None = None, bias: bool = True, **options: Any) -> Path:
    """What `save_m3` makes, in our own layout; `dense` is the width of a projection, if there shall be one."""
    save_m3(folder, **options)
    stored = {}
    for name in ("sparse_linear", "colbert_linear"):
        head = torch.load(folder / f"{name}.pt", weights_only=True)
        stored |= {f"{name}.{part}": tensor for part, tensor in head.items()}
        (folder / f"{name}.pt").unlink()
    save_file(stored, folder / "heads.safetensors")
    projection = {}
    if dense is not None:
        _save_dense(folder, dense, stored["sparse_linear.weight"].shape[1], bias, "torch.nn.modules.linear.Identity")
        projection = {"projection": "2_Dense"}
    write_json(folder / "m3.json", {"pooling": "cls", **projection})
    return folder


def _save_dense(folder: Path, width: int, hidden: int, bias: bool, activation: str) -> None:
    """sentence-transformers' Dense module, random."""
    settings = {"in_features": hidden, "out_features": width, "bias": bias, "activation_function": activation}
    write_json(folder / "2_Dense" / "config.json", settings)
    linear = {"linear.weight": torch.randn(width, hidden) / 4} | ({"linear.bias": torch.randn(width)} if bias else {})
    save_file(linear, folder / "2_Dense" / "model.safetensors")


def save_bert(
    folder: Path, pieces: list[str], *, hidden: int = 32, positions: int = 256, initializer_range: float = 0.02
) -> None:
    """A random BERT of two layers; its vocabulary is these pieces, behind the special tokens."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        initializer_range=initializer_range,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, mask_token="[MASK]").save_pretrained(folder)


def save_m3e(
    folder: Path,
    *,
    normalize: bool = False,
    dense: int | None = None,
    bias: bool = True,
    activation: str = "torch.nn.modules.activation.Tanh",
    seed: int = 0,
) -> Path:
    """A random BERT with mean pooling in sentence-transformers' layout, as moka-ai/m3e has it.

    `dense` is the width of a Dense module, if there shall be one.
    """
    torch.manual_seed(seed)
    save_bert(folder, [*CHARACTERS, *(f"##{c}" for c in CHARACTERS)], positions=64, initializer_range=0.3)
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48})
    if dense is not None:
        _save_dense(folder, dense, 32, bias, activation)
    return folder


def write_json(path: Path, content: object) -> None:
    """Writes JSON, with the folder if need be."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
