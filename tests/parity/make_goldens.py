"""Makes the texts, the tiny random models and the reference outputs that the parity tests compare with.

The reference implementations are needed here only, never by the tests. To make everything anew, run this by hand in an
environment of its own; nothing is downloaded but the packages:

    python -m venv reference
    reference/bin/pip install "FlagEmbedding==1.4.2" "sentence-transformers==6.2.0"
    reference/bin/python tests/parity/make_goldens.py

Seeds are fixed: the same versions of torch and transformers on the same kind of machine write the same files, byte for
byte. Another torch may differ in the last bits; that is why the models are stored beside the outputs.
"""

import json
import math
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from FlagEmbedding import BGEM3FlagModel
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, BertTokenizer, XLMRobertaConfig, XLMRobertaModel

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens"
PIPELINE = HERE.parents[1] / "m3core" / "mini" / "tokenizer.json"  # has XLM-R's normalizer

HIDDEN, HEADS, LAYERS, FEED_FORWARD = 32, 4, 3, 64
XLMR_LIMIT = 1024  # tokens; as in bge-m3, there are two positions more than that
BERT_POSITIONS, M3E_LIMIT = 512, 256  # the sentence-transformers limit is the tighter one
CUT = 16  # tokens, for the outputs of truncated texts
PIECES = 1500
WEIGHTS = ((1.0, 1.0, 1.0), (0.4, 0.2, 0.4))  # dense, sparse, multi-vector
RANDOM_PAIRS = 36
RELATED_PAIRS = (
    ("en_short", "en_statement"),
    ("en_statement", "long_mixed"),
    ("en_statement", "en_lowercase"),
    ("zh_short", "zh_paragraph"),
    ("zh_paragraph", "zh_statement"),
    ("ru_short", "ru_paragraph"),
    ("ja_short", "ja_paragraph"),
    ("ar_short", "ar_paragraph"),
    ("mask_spelled_out", "repeated_phrase"),
    ("pad_spelled_out", "only_pad_spelled_out"),
    ("eos_spelled_out", "eos_spelled_out"),
    ("empty", "empty"),
    ("empty", "zh_short"),
    ("long_mixed", "one_letter"),
)

ENGLISH = (
    "The lighthouse keeper wrote down the weather every evening, although nobody had asked him to do so for years. "
    "When the storm of the last winter tore the roof off the boat house, he wrote that the wind was strong. "
    "His sister, who kept bees on the mainland, read these notes as other people read novels: slowly, with tea, and "
    "never the last page first. She knew which of the short sentences meant that he was lonely, and which meant only "
    "that the soup had been too salty. In spring she sent him a jar of honey and a map of the harbour on which she had "
    "marked, in red ink, every place where the two of them had once been lost. He hung it beside the barometer. "
    "From then on the notes grew longer. They spoke of seals, of a ship with green sails, of the sound that ice makes "
    "before it breaks, and of a plan to repaint the stairs before the inspectors came back in September. "
)
CHINESE = (
    "老街的尽头有一家修伞的小店，店主姓林，修了四十年的伞。下雨天生意最好，可是他总在晴天开门，说雨天要留给自己听雨。"
    "有一回，一个学生抱来一把断了骨的油纸伞，问能不能修好。林师傅看了很久，说伞可以修，但是雨声会变。学生不懂，三天后来取伞，"
    "撑开一听，果然和从前不同：从前是沙沙的，现在像有人在远处轻轻敲鼓。她把这件事写进了毕业论文，题目叫《材料与声音》。"
    "老师在旁边批了一句：数据不足，但是值得再听一遍。后来那条街拆了，林师傅搬到城外，门口挂着那句批语，晴天照样开门。"
)
JAPANESE = (
    "駅前の小さな本屋では、毎週金曜日の夜に朗読会が開かれている。読むのは店主ではなく、たまたま居合わせた客である。"
    "先週は郵便配達の人が、配達できなかった手紙の宛名だけを静かに読み上げた。"
)
RUSSIAN = (
    "Старый трамвай ходил только по воскресеньям, и кондуктор продавал билеты, напечатанные ещё до реформы. "
    "Дети собирали их, потому что на обороте были нарисованы птицы, и ни одна птица не повторялась дважды. "
)
ARABIC = "كان الخباز في آخر الشارع يترك رغيفا واحدا على النافذة كل صباح، ولا أحد يعرف لمن كان يتركه. "

TEXTS: dict[str, str] = {
    "empty": "",
    "one_letter": "a",
    "one_han": "雨",
    "one_punctuation": ".",
    "one_emoji": "🦉",
    "en_short": "Where is the harbour map?",
    "en_statement": "The keeper hung the harbour map beside the barometer.",
    "en_lowercase": "the keeper hung the harbour map beside the barometer.",
    "en_uppercase": "THE KEEPER HUNG THE HARBOUR MAP BESIDE THE BAROMETER.",
    "en_numbers": "On 14 March 2031 the pump delivered 1,204.5 litres at 3.75 bar (±0.2).",
    "en_paragraph": ENGLISH[:520],
    "zh_short": "修伞的小店在哪里？",
    "zh_statement": "林师傅在老街修了四十年的伞。",
    "zh_traditional": "老街的盡頭有一家修傘的小店，店主姓林。",
    "zh_paragraph": CHINESE[:150],
    "zh_numbers": "第３季度共修伞１２０把，平均每把用时45分钟。",
    "ru_short": "Где продают билеты?",
    "ru_paragraph": RUSSIAN,
    "ja_short": "朗読会は金曜日ですか。",
    "ja_paragraph": JAPANESE,
    "ja_halfwidth_kana": "ﾄﾗﾑの切符はｶﾞﾗｽの箱の中。",
    "ar_short": "لمن هذا الرغيف؟",
    "ar_paragraph": ARABIC,
    "mixed_zh_en": "请把 harbour map 挂在 barometer 旁边，thanks！",
    "mixed_all": "雨 rain дождь مطر 雨が降る, one map of four languages.",
    "mixed_no_spaces": "map地図карта地图خريطةmap",
    "code": "def repaint(stairs: list[str]) -> None:\n    for step in stairs:\n        print(f'{step!r}: green')\n",
    "url": "https://example.org/notes/2031?page=4&lang=zh#storm",
    "markup": "<p class='note'>The wind was <b>strong</b>.</p>",
    "emoji": "The bees 🐝🐝 like the honey 🍯, said the 👩‍🚀 with the 🏴‍☠️ flag 👍🏽.",
    "emoji_only": "🌧️☔🌧️☔🌧️",
    "unseen_script": "ქარი ძლიერი იყო, he wrote; លម្អ.",
    "rare_han": "龘靐齉爩 are four characters that nobody on the old street could read.",
    "repeated_word": "rain " * 40,
    "repeated_han": "雨" * 60,
    "repeated_phrase": "the wind was strong. " * 12,
    "repeated_mark": "!" * 50,
    "spaces_only": "     ",
    "whitespace_only": " \t\n\r\n\u3000\u00a0 ",
    "punctuation_only": "?!... -- ;:,。！？、《》「」…—()[]{}",
    "newlines_and_tabs": "first line\n\n\tsecond line\r\nthird\tline\n",
    "surrounding_spaces": "   the soup had been too salty   ",
    "inner_spaces": "the   soup  had     been\u3000too\u2003salty",
    "nul_inside": "before\x00after the storm\x00",
    "control_characters": "bell\x07 escape\x1b[0m delete\x7f soft\u00adhyphen",
    "zero_width": "har\u200bbour\u200d map\ufeff \u2060beside",
    "right_to_left_marks": "\u202bthe map\u202c \u200fرغيف\u200e",
    "combining": "e\u0301te\u0301 nai\u0308ve Zu\u0308rich n\u0303 o\u0302\u0323",
    "precomposed": "été naïve Zürich ñ ộ",
    "stacked_marks": "s\u0336t\u0336o\u0336r\u0336m\u0336 z\u0335\u0322\u0327a\u0334l\u0338",
    "full_width": "Ｔｈｅ　ｗｉｎｄ　ｗａｓ　ｓｔｒｏｎｇ（１２３）！",
    "ligatures": "the o\ufb03ce \ufb01le, the \ufb02ag, \u0133s, \ufdfa",
    "compatibility": "x² + ½ ℃ № Ⅳ ㈱ ㎏ ™ …",
    "hangul_jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af 한글",
    "very_long_word": "harbour" * 40,
    "long_unbroken_number": "1234567890" * 25,
    "metaspace_spelled_out": "\u2581the\u2581map \u2581 wind",
    "mask_spelled_out": "The wind was <mask> and the soup <mask>.",
    "eos_spelled_out": "The last page</s> is never the first.",
    "bos_spelled_out": "<s>The notes begin<s> here",
    "pad_spelled_out": "honey <pad> and <pad><pad> tea",
    "unk_spelled_out": "the <unk> ship with green sails",
    "only_pad_spelled_out": "<pad>",
    "bert_specials_spelled_out": "[CLS] 修伞 [SEP] honey [PAD] tea [MASK] [UNK]",
    "long_mixed": "\n".join((ENGLISH, CHINESE, RUSSIAN, JAPANESE, ARABIC, ENGLISH[::-1][:400])),
}

UNSEEN = frozenset({"one_emoji", "emoji", "emoji_only", "unseen_script", "rare_han", "stacked_marks", "compatibility"})
"""Texts that the vocabularies are made without, so that some of their characters are unknown."""


def main() -> None:
    """Writes `texts.json` and everything under `goldens/`."""
    for package, wanted in (("FlagEmbedding", "1.4.2"), ("sentence-transformers", "6.2.0")):
        if version(package) != wanted:
            raise SystemExit(f"the goldens are those of {package} {wanted}, not of {version(package)}")
    torch.set_num_threads(1)  # sums in one order
    write_json(HERE / "texts.json", TEXTS)
    shutil.rmtree(GOLDENS, ignore_errors=True)
    GOLDENS.mkdir()
    make_flag_models()
    for name, width in (("flag_m3", -1), ("flag_m3_dim16", 16)):
        ask_flagembedding(name, width)
    make_m3e_models()
    for name in ("m3e", "m3e_normalized"):
        model = SentenceTransformer(str(GOLDENS / name), device="cpu")
        dense = model.encode(list(TEXTS.values()), batch_size=1, show_progress_bar=False)
        save_file({"dense": dense}, GOLDENS / f"{name}.safetensors")


def make_flag_models() -> None:
    """Two models in FlagEmbedding's layout that differ in the width of their multi-vectors only."""
    torch.manual_seed(1)
    path = GOLDENS / "flag_m3"
    path.mkdir()
    vocabulary = write_xlmr_tokenizer(path)
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=XLMR_LIMIT + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    body = XLMRobertaModel(config)
    randomize(body)
    body.save_pretrained(path)
    # the negative bias leaves many tokens without a weight
    write_head(path / "sparse_linear.pt", torch.randn(1, HIDDEN) * 0.08, torch.tensor([-0.08]))
    write_head(path / "colbert_linear.pt", torch.randn(HIDDEN, HIDDEN) * 0.3, torch.randn(HIDDEN) * 0.1)
    narrow = GOLDENS / "flag_m3_dim16"
    shutil.copytree(path, narrow)
    write_head(narrow / "colbert_linear.pt", torch.randn(16, HIDDEN) * 0.3, torch.randn(16) * 0.1)


def write_head(path: Path, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """A head file in half precision, as bge-m3's are."""
    torch.save({"weight": weight.half(), "bias": bias.half()}, path)


def write_xlmr_tokenizer(path: Path) -> int:
    """XLM-R's pipeline with a small vocabulary, in bge-m3's layout. Returns the vocabulary's size."""
    pipeline = json.loads(PIPELINE.read_text(encoding="utf-8"))
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    # The library's own Unigram trainer gives other scores on every run, so pieces are simply counted.
    pieces = count_pieces(Tokenizer.from_file(str(PIPELINE)))
    vocabulary: list[tuple[str, float]] = [*((token, 0.0) for token in special), *pieces, ("<mask>", 0.0)]
    pipeline["model"]["vocab"] = vocabulary
    for token in pipeline["added_tokens"]:
        is_mask = token["content"] == "<mask>"
        token["id"] = len(vocabulary) - 1 if is_mask else special.index(token["content"])
        token["lstrip"] = is_mask  # XLM-R's mask swallows the space before it
    write_json(path / "tokenizer.json", pipeline)
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": False, "special": True}
    write_json(
        path / "tokenizer_config.json",
        {
            "tokenizer_class": "XLMRobertaTokenizer",
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": {**mask, "rstrip": False, "single_word": False},
            "model_max_length": XLMR_LIMIT,
        },
    )
    return len(vocabulary)


def count_pieces(tokenizer: Tokenizer) -> list[tuple[str, float]]:
    """The characters of the texts and the substrings that cover most of them, with the logarithm of their share."""
    counts: Counter[str] = Counter()
    for name, text in TEXTS.items():
        if name in UNSEEN or "spelled_out" in name:
            continue
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            counts.update(word[i:j] for i in range(len(word)) for j in range(i + 1, min(i + 6, len(word)) + 1))
    characters = [piece for piece in counts if len(piece) == 1]
    longer = sorted((p for p in counts if len(p) > 1), key=lambda p: (-(len(p) - 1) * counts[p], p))
    kept = sorted({*characters, *longer[: PIECES - len(characters)]}, key=lambda p: (-counts[p], p))
    total = sum(counts[p] for p in kept)
    return [(p, round(math.log(counts[p] / total), 4)) for p in kept]


def ask_flagembedding(name: str, width: int) -> None:
    """FlagEmbedding's outputs and scores for a model."""
    model = BGEM3FlagModel(str(GOLDENS / name), use_fp16=False, devices="cpu", colbert_dim=width)
    texts = list(TEXTS.values())
    outputs = flag_encode(model, texts, XLMR_LIMIT)
    save_flag_outputs(outputs, GOLDENS / f"{name}.safetensors")
    chance = random.Random(3)
    pairs = [*RELATED_PAIRS, *(chance.sample(list(TEXTS), 2) for _ in range(RANDOM_PAIRS))]
    scores = {"pairs": pairs, "results": [flag_scores(model, pairs, weights) for weights in WEIGHTS]}
    write_json(GOLDENS / f"{name}_scores.json", scores)
    if width < 0:
        save_flag_outputs(flag_encode(model, texts, CUT), GOLDENS / f"{name}_cut.safetensors")
        write_json(GOLDENS / "maxsim_padding.json", maxsim_with_padding(model, outputs["colbert_vecs"]))


def flag_encode(model: BGEM3FlagModel, texts: Sequence[str], max_length: int) -> dict[str, Any]:
    """All three representations of each text, encoded on its own."""
    outputs: dict[str, Any] = model.encode(
        texts,
        batch_size=1,
        max_length=max_length,
        return_dense=True,
        return_sparse=True,
        return_colbert_vecs=True,
    )
    return outputs


def save_flag_outputs(outputs: dict[str, Any], path: Path) -> None:
    """One file for all texts: what has a length of its own lies end to end, with the lengths beside it."""
    sparse, rows = outputs["lexical_weights"], outputs["colbert_vecs"]
    tensors = {
        "dense": outputs["dense_vecs"],
        "sparse.lengths": np.array([len(s) for s in sparse]),
        "sparse.ids": np.array([int(token) for s in sparse for token in s], dtype=np.int32),
        "sparse.weights": np.array([w for s in sparse for w in s.values()], dtype=np.float32),
        "multivector.lengths": np.array([len(r) for r in rows]),
        "multivector.rows": np.concatenate(rows),
    }
    save_file(tensors, path)


def flag_scores(
    model: BGEM3FlagModel, pairs: Iterable[Sequence[str]], weights: Sequence[float], batch_size: int = 1
) -> dict[str, Any]:
    """The weights, and FlagEmbedding's five scores for each pair of names."""
    scores = model.compute_score(
        [(TEXTS[query], TEXTS[document]) for query, document in pairs],
        batch_size=batch_size,
        max_query_length=XLMR_LIMIT,
        max_passage_length=XLMR_LIMIT,
        weights_for_different_modes=list(weights),
    )
    return {"weights": list(weights), **scores}


def maxsim_with_padding(model: BGEM3FlagModel, rows: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Pairs whose MaxSim FlagEmbedding gives differently when a longer document is in the same batch.

    Then the document is padded, its padding gets zero vectors, and these take part in the maximum: no query token can
    score below 0. `colbert_score` of the vectors that `encode` returns has no padding.
    """
    names = list(TEXTS)
    found = []
    for d, document in enumerate(names):
        for q, query in enumerate(names):
            best = (rows[q] @ rows[d].T).max(axis=1)
            found.append((float(np.minimum(best, 0).mean()), query, document, q, d))
    cases = []
    for _, query, document, q, d in sorted(found)[::20][:6]:  # neighbours in this order are much alike
        padded = flag_scores(model, [(query, document), (query, "long_mixed")], WEIGHTS[0], batch_size=2)
        unpadded = model.colbert_score(rows[q], rows[d]).item()
        cases.append({"query": query, "document": document, "padded": padded["colbert"][0], "unpadded": unpadded})
    return cases


def make_m3e_models() -> None:
    """One BERT as moka-ai/m3e-* are laid out, and as sentence-transformers saves it today with a Normalize module."""
    torch.manual_seed(2)
    path = GOLDENS / "m3e"
    vocabulary = wordpiece_vocabulary()
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS - 1,
        num_attention_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=BERT_POSITIONS,
    )
    body = BertModel(config)  # with a pooler that nobody uses, as the hub's models have
    randomize(body)
    body.save_pretrained(path)
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    BertTokenizer(vocab=ids, model_max_length=BERT_POSITIONS).save_pretrained(path)
    (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")
    names = (("", "Transformer"), ("1_Pooling", "Pooling"))
    write_json(
        path / "modules.json",
        [
            {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
            for i, (place, kind) in enumerate(names)
        ],
    )
    write_json(path / "sentence_bert_config.json", {"max_seq_length": M3E_LIMIT, "do_lower_case": False})
    (path / "1_Pooling").mkdir()
    write_json(
        path / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": HIDDEN,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    loaded = SentenceTransformer(str(path), device="cpu")
    normalized = SentenceTransformer(modules=[*loaded, Normalize()], device="cpu")
    normalized.save_pretrained(str(GOLDENS / "m3e_normalized"), create_model_card=False)


def wordpiece_vocabulary() -> list[str]:
    """BERT's special tokens, the single characters of Chinese and English, and some English words and endings."""
    known = [text.lower() for name, text in TEXTS.items() if name[:2] in ("en", "zh")] + [ENGLISH.lower(), CHINESE]
    characters = sorted({c for text in known for c in text if not c.isspace()} | set("abcdefghijklmnopqrstuvwxyz"))
    words = Counter(w for text in known for w in text.split() if w.isascii() and w.isalpha())
    frequent = sorted(w for w, n in words.items() if n > 1 and len(w) > 1)
    inner = [f"##{c}" for c in characters if c.isascii() and c.isalnum()]
    endings = [f"##{ending}" for ending in ("ed", "er", "ing", "ness", "our")]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *inner, *endings, *frequent]


SCALES = {"bias": 0.1, "word_embeddings": 1.0, "position_embeddings": 0.5, "token_type": 0.1, "query": 0.5, "key": 0.5}
"""Standard deviations; 0.2 for all else. Attention is sharp, so that tokens of one text do not end up all alike."""


@torch.no_grad()
def randomize(model: torch.nn.Module) -> None:
    """Weights far larger than an untrained model's, padding's too: every token counts for every other one."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape) * next((scale for part, scale in SCALES.items() if part in name), 0.2)
        parameter.copy_(1 + noise if name.endswith("LayerNorm.weight") else noise)


def write_json(path: Path, content: object) -> None:
    """JSON that reads well in a diff."""
    indent = None if path.name == "tokenizer.json" else 1
    path.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
