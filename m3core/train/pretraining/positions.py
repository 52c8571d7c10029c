"""Longer texts than a model was made for: more rows in its table of positions."""

from typing import Any

import torch


def extend_positions(body: torch.nn.Module, positions: int, padding: int | None) -> None:
    """Gives a body as many positions, 8,192 for instance, if it has fewer.

    Texts up to the old limit keep their vectors exactly.

    The learned rows are repeated, as in Longformer (arXiv 2004.05150, section 5), where this start was far better than
    a random one: what is nearby stays nearby in all but a few places, and training has only to learn to tell the
    repetitions apart. Interpolating between the rows would change every vector. How BGE-M3 did it is not published; its
    authors elsewhere advise transformers' `ignore_mismatched_sizes`, which draws the whole table anew.

    Args:
        body: transformers' BERT, RoBERTa or XLM-R.
        positions: how many tokens a text may have.
        padding: the id that positions start behind, or `None`; see `Checkpoint.position_padding`.
    """
    model: Any = body  # transformers' types say too little
    embeddings = model.embeddings
    old = embeddings.position_embeddings
    first = 0 if padding is None else padding + 1  # rows that stand for no position
    have = old.num_embeddings - first
    if positions <= have:
        return
    rows = first + torch.arange(positions, device=old.weight.device) % have
    table = torch.cat([old.weight[:first], old.weight[rows]]).detach()
    made = torch.nn.Embedding.from_pretrained(table, freeze=not old.weight.requires_grad, padding_idx=old.padding_idx)
    embeddings.position_embeddings = made
    embeddings.position_ids = torch.arange(len(table), device=table.device)[None]
    embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)
    model.config.max_position_embeddings = len(table)
