"""Makes FlagEmbedding's own losses and gradients on one batch, which the tests of training compare with.

Run by hand after `make_goldens.py`, in the same environment:

    reference/bin/python tests/parity/make_training_goldens.py

All texts of the batch have the same number of tokens: where FlagEmbedding pads, rows of padding count in its scores of
multi-vectors. Cross-entropy with the teacher's softmax is its `kl_div`.
"""

import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from FlagEmbedding.finetune.embedder.encoder_only.m3.modeling import EncoderOnlyEmbedderM3Model
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

GOLDENS = Path(__file__).parent / "goldens"
TEXTS: dict[str, str] = json.loads((Path(__file__).parent / "texts.json").read_text(encoding="utf-8"))
QUERIES = ("en_paragraph", "zh_paragraph", "ru_paragraph")
PASSAGES = ("long_mixed", "ja_paragraph", "zh_paragraph", "en_paragraph", "ar_paragraph", "ru_paragraph")  # two each
TOKENS = {"queries": 10, "passages": 16}
TEACHER = [[3.0, 1.0], [0.5, 0.25], [2.0, -1.0]]
LOSSES: dict[str, dict[str, Any]] = {
    "unified": {},
    "unified with self-distillation": {"use_self_distill": True},
    "unified with a teacher": {"teacher": True, "kd_loss_type": "kl_div"},
    "unified with a teacher in turn": {"teacher": True, "kd_loss_type": "m3_kd_loss"},
    "dense": {"unified_finetuning": False},
    "dense, own passages only": {"unified_finetuning": False, "own_only": True},  # it fails with all three
}
GRADIENTS = ("sparse_linear.weight", "colbert_linear.bias", "model.encoder.layer.1.output.dense.weight")


def main() -> None:
    """Writes `training.safetensors` and `training.json`."""
    tokenizer = AutoTokenizer.from_pretrained(GOLDENS / "flag_m3")

    def batch(names: tuple[str, ...], tokens: int) -> dict[str, torch.Tensor]:
        made = tokenizer([TEXTS[n] for n in names], truncation=True, max_length=tokens, return_tensors="pt")
        return dict(made)

    queries, passages = batch(QUERIES, TOKENS["queries"]), batch(PASSAGES, TOKENS["passages"])
    losses: dict[str, float] = {}
    gradients: dict[str, torch.Tensor] = {}
    for name, options in LOSSES.items():
        model = loaded(tokenizer, **{k: v for k, v in options.items() if k not in ("teacher", "own_only")})
        loss = model(
            queries=queries,
            passages=passages,
            teacher_scores=[s for row in TEACHER for s in row] if options.get("teacher") else None,
            no_in_batch_neg_flag=options.get("own_only", False),
        ).loss
        loss.backward()
        losses[name] = loss.item()
        for parameter, values in model.named_parameters():
            if parameter in GRADIENTS and values.grad is not None:
                gradients[f"{name}/{parameter}"] = values.grad
    save_file(gradients, GOLDENS / "training.safetensors")
    content = {"queries": QUERIES, "passages": PASSAGES, "tokens": TOKENS, "teacher": TEACHER, "losses": losses}
    (GOLDENS / "training.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def loaded(tokenizer: Any, **options: Any) -> EncoderOnlyEmbedderM3Model:
    """The tiny model in FlagEmbedding's class for training, without dropout."""
    folder = GOLDENS / "flag_m3"
    body = AutoModel.from_pretrained(folder, add_pooling_layer=False, hidden_dropout_prob=0.0)
    body.config.attention_probs_dropout_prob = 0.0
    heads = {}
    for name, width in (("sparse_linear", 1), ("colbert_linear", body.config.hidden_size)):
        heads[name] = torch.nn.Linear(body.config.hidden_size, width)
        heads[name].load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    model = EncoderOnlyEmbedderM3Model(
        {"model": body, **heads},
        tokenizer=tokenizer,
        temperature=0.02,
        normalize_embeddings=True,
        **{"unified_finetuning": True, "kd_loss_type": "kl_div", **options},
    )
    model.train()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model


if __name__ == "__main__":
    main()
