"""Fine-tunes tiny models with this package, and makes what other libraries give for the directories that it wrote.

Run by hand after `make_goldens.py`, in the same environment, with this package's own dependencies for training and

    reference/bin/pip install langchain-huggingface llama-index-embeddings-huggingface
    PYTHONPATH=. reference/bin/python tests/parity/make_checkpoint_goldens.py

Only what fine-tuning writes in addition to the tokenizer is stored.
"""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from FlagEmbedding import BGEM3FlagModel
from langchain_huggingface import HuggingFaceEmbeddings
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer

from m3core.train import FineTuner

GOLDENS = Path(__file__).parent / "goldens"
TEXTS: dict[str, str] = json.loads((Path(__file__).parent / "texts.json").read_text(encoding="utf-8"))
LIMIT = 128  # tokens
KEPT = ("*.json", "*.safetensors", "*.pt", "*/*.json", "*/*.safetensors")


def main() -> None:
    """Writes the directories and what others make of them."""
    torch.set_num_threads(1)
    texts = [text for text in TEXTS.values() if text.strip()]
    records = [{"query": text[:20].strip() or text, "pos": [text]} for text in texts]
    for name, source, options in (("trained_m3", "flag_m3", {}), ("trained_m3e", "m3e", {"projection": True})):
        directory = trained(source, records, name, **options)
        with TemporaryDirectory() as folder:
            for path in (*GOLDENS.glob(f"{source}/tokenizer*"), *GOLDENS.glob(f"{source}/vocab.txt")):
                shutil.copy(path, folder)
            shutil.copytree(directory, folder, dirs_exist_ok=True)
            outputs = {"dense": dense(folder)} | (all_modes(folder) if source == "flag_m3" else {})
        save_file(outputs, GOLDENS / f"{name}.safetensors")


def all_modes(directory: str) -> dict[str, np.ndarray]:
    """FlagEmbedding's outputs."""
    model = BGEM3FlagModel(directory, use_fp16=False, devices="cpu")
    texts = list(TEXTS.values())
    made = model.encode(texts, batch_size=1, max_length=LIMIT, return_sparse=True, return_colbert_vecs=True)
    sparse = made["lexical_weights"]
    return {
        "flag_dense": made["dense_vecs"],
        "rows": np.concatenate(made["colbert_vecs"]),
        "lengths": np.array([len(weights) for weights in sparse]),
        "ids": np.array([int(i) for weights in sparse for i in weights], np.int64),
        "weights": np.array([w for weights in sparse for w in weights.values()], np.float32),
    }


def trained(source: str, records: list[dict[str, Any]], name: str, **options: Any) -> Path:
    """A model's directory, without its tokenizer, which `source` has."""
    target = GOLDENS / name
    shutil.rmtree(target, ignore_errors=True)
    with TemporaryDirectory() as folder:
        tuner = FineTuner.from_pretrained(
            GOLDENS / source, dataset=records, device="cpu", dtype="float32", show_progress=False, **options
        )
        made = tuner.run(output=folder, epochs=1, batch_size=8, max_length=LIMIT, show_progress=False).directory
        for pattern in KEPT:
            for path in made.glob(pattern):
                if not path.name.startswith("tokenizer"):
                    (target / path.relative_to(made)).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target / path.relative_to(made))
    return target


def dense(directory: str) -> np.ndarray:
    """sentence-transformers' outputs, which both frameworks' own classes give as well."""
    texts = list(TEXTS.values())
    model = SentenceTransformer(directory, device="cpu")
    model.max_seq_length = LIMIT
    made = model.encode(texts, batch_size=1, show_progress_bar=False)
    langchain = HuggingFaceEmbeddings(model_name=directory, encode_kwargs={"batch_size": 1})
    llama = HuggingFaceEmbedding(directory, embed_batch_size=1, normalize=False, device="cpu")
    short = [i for i, text in enumerate(texts) if 0 < len(text) < LIMIT // 2]
    np.testing.assert_allclose(langchain.embed_documents([texts[i] for i in short]), made[short], atol=1e-6)
    np.testing.assert_allclose(llama.get_text_embedding_batch([texts[i] for i in short]), made[short], atol=1e-6)
    return made


if __name__ == "__main__":
    main()
