"""MCLS: a long text with a CLS token before every 256 of its tokens, and their mean as its dense vector.

python examples/long_documents.py                                # a tiny random model: shows what happens, not how well
python examples/long_documents.py --model BAAI/bge-m3            # what one would use; 8,192 tokens, CLS pooling

MCLS is from the BGE-M3 paper (arXiv 2402.03216, appendix B.2). What it gains with your model and texts, measure:
m3 eval DIR --mcls 256.
"""

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoModel

from m3core import M3Encoder
from m3core.hub import locate
from m3core.records import read_records

CORPUS = Path(__file__).parent / "data" / "debate" / "corpus.jsonl"


def make_random_model(folder: Path) -> Path:
    """Two random layers for 8,192 tokens with CLS pooling; m3-mini's tokenizer. m3-mini itself pools by the mean."""
    mini = locate("m3-mini").directory
    small = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = AutoConfig.from_pretrained(mini, **small, max_position_embeddings=8194, initializer_range=0.3)
    torch.manual_seed(0)
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(mini / "tokenizer.json", folder)
    (folder / "m3.json").write_text(json.dumps({"pooling": "cls"}), encoding="utf-8")
    return folder


def compare(model: str | Path, mcls: int) -> None:
    """Encodes a passage and a whole debate, with one CLS token each and with many."""
    passages = [record.text for record in read_records(CORPUS) if record.metadata["motion_id"] == "ai-teacher"]
    texts = {"a passage": passages[0], "a debate": "\n".join(passages)}
    plain, many = M3Encoder(model), M3Encoder(model, mcls=mcls)
    vectors = [encoder.encode_documents(texts.values(), modes=["dense"]).dense for encoder in (plain, many)]
    counts = [encoder.count_tokens(texts.values()) for encoder in (plain, many)]  # special tokens are counted too
    print(f"{'':10}  {'tokens':>6}  {'CLS tokens':>10}  {f'with mcls={mcls}':>13}  {'cosine of both vectors':>22}")
    for row, name in enumerate(texts):
        length, cls_tokens = counts[0][row], 1 + counts[1][row] - counts[0][row]
        cosine = float(vectors[0][row] @ vectors[1][row])  # of unit length
        print(f"{name:10}  {length:6,}  {1:10}  {cls_tokens:13}  {cosine:22.3f}")


def main() -> None:
    """Compares, with a model that is made for it or with a real one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="one with CLS pooling, such as BAAI/bge-m3; else a tiny random one")
    parser.add_argument("--mcls", type=int, default=256, help="tokens between two CLS tokens")
    options = parser.parse_args()
    if options.model:
        compare(options.model, options.mcls)
        return
    with TemporaryDirectory() as folder:
        compare(make_random_model(Path(folder)), options.mcls)
    print("\nThe model is random: that its vectors differ says nothing of quality. For real work: --model BAAI/bge-m3")


if __name__ == "__main__":
    main()
