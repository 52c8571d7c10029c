"""RetroMAE (arXiv 2205.12035): a text's vector must hold enough to guess all of its tokens from it.

The encoder sees a text with some words masked, guesses these, and makes the text's vector. A decoder of one layer then
guesses every token from that vector and from the text's other words, of which it sees half: for each token a half of
its own, and never the token itself. Only the encoder is kept for retrieval.

Queries, keys and values are as in FlagEmbedding's code for BGE's pre-training: a query is the vector at a position,
through the encoder's own embedding layer with its layer norm; RetroMAE's code leaves that norm out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint as recomputed

from m3core.backbones.kernels import Padded
from m3core.backbones.transfer import upload
from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidModel
from m3core.heads import Heads
from m3core.packing import Pack, cut
from m3core.train.losses import Losses
from m3core.train.model import TrainableModel
from m3core.train.pretraining.lm_head import LmHead, stored_lm_head
from m3core.train.pretraining.masking import MaskedPack
from m3core.train.pretraining.positions import extend_positions
from m3core.train.saving import save_model
from m3core.weights import invalid_model_named

BESIDE = "retromae.safetensors"
"""What holds head and decoder, in a model's directory."""

_VISIBLE = 1 << 24  # pairs of tokens at once; 64 MiB in float32


class RetroMaeModel(torch.nn.Module):
    """An encoder with what RetroMAE needs besides: a head that guesses tokens, and the decoder.

    Attributes:
        encoder: what is kept. Of its parts the body is trained; heads and projection go along as they are.
        lm_head: shared by encoder and decoder.
        decoder: a layer of the body's own kind, with queries of its own.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        special_ids: frozenset[int],
        device: torch.device,
        *,
        attention: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Loads a checkpoint. What it lacks of head and decoder is drawn by torch's generator.

        Args:
            checkpoint: the model. If its maximum length is more than its positions, these are extended. One that was
                pre-trained before has head and decoder beside it.
            special_ids: as of `TrainableModel`, and the rest too.
            device: where to train.
            attention: as of `M3Encoder`; the decoder has its own.
            dtype: what is computed in; bfloat16 is autocast's.

        Raises:
            InvalidInput: as `TrainableModel`.
            InvalidModel: as `TrainableModel`; or what is beside it is of another model.
        """
        super().__init__()
        self.encoder = TrainableModel(checkpoint, special_ids, device, attention=attention, dtype=dtype)
        self.encoder.requires_grad_(False)
        self.encoder.body.requires_grad_(True)
        extend_positions(self.encoder.body, checkpoint.max_length, checkpoint.position_padding)
        self._pooling = Heads(checkpoint.pooling, False, None, None, special_ids)
        self._checkpoint, self._device, self._dtype = checkpoint, device, dtype
        config = self.encoder.body.config
        self.lm_head = LmHead(
            config.hidden_size,
            config.vocab_size,
            activation=checkpoint.activation if checkpoint.model_type == "bert" else "gelu",  # RoBERTa's is always this
            epsilon=checkpoint.layer_norm_eps,
            spread=config.initializer_range,
        )
        with invalid_model_named(checkpoint.path):
            if stored := stored_lm_head(checkpoint.path):
                self.lm_head.load_state_dict(stored)
        decoder: torch.nn.Module = type(self.encoder.body.encoder.layer[0])(config)
        for module in decoder.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=config.initializer_range)
                torch.nn.init.zeros_(module.bias)
        self.decoder: Any = decoder  # transformers' types say too little
        if (checkpoint.path / BESIDE).is_file():
            self._load_beside(checkpoint.path)
        self.to(device)

    def save(self, directory: Path) -> None:
        """Writes the encoder as a model of its own, and head and decoder beside it, in `retromae.safetensors`."""
        save_model(self.encoder, self._checkpoint, directory, max_length=self._checkpoint.max_length)
        beside = {name: values for name, values in self.state_dict().items() if not name.startswith("encoder.")}
        save_file(beside, directory / BESIDE, {"format": "pt"})

    def load(self, directory: Path) -> None:
        """Takes over the weights that `save` has written."""
        self.encoder.body.load_state_dict(load_file(directory / "model.safetensors"))
        self._load_beside(directory)

    def _load_beside(self, directory: Path) -> None:
        path = directory / BESIDE
        with invalid_model_named(path):
            wrong = self.load_state_dict(load_file(path), strict=False)
            missing = [name for name in wrong.missing_keys if not name.startswith("encoder.")]
            if missing or wrong.unexpected_keys:
                raise InvalidModel(f"{path} is of another model; it lacks {missing}, and has {wrong.unexpected_keys}")

    def forward(self, masked: MaskedPack) -> Losses:
        """The loss: that of the encoder's guesses and that of the decoder's, each the mean over tokens, together."""
        pack, body = masked.pack, self.encoder.body
        states = self.encoder.states(Pack(masked.seen, pack.lengths))
        parts = {}
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            guesses = self._decode(self._pooling.dense(states, pack.lengths).to(states.dtype), masked)
            token_ids, words = upload(pack.token_ids, self._device), body.embeddings.word_embeddings.weight
            for name, made, which in (("encoder", states, masked.masked), ("decoder", guesses, masked.labels)):
                places = upload(np.flatnonzero(which), self._device)
                parts[name] = self.lm_head(made.index_select(0, places), token_ids.index_select(0, places), words)
        return Losses(parts["encoder"] + parts["decoder"], parts)

    def _decode(self, vectors: torch.Tensor, masked: MaskedPack) -> torch.Tensor:
        """What the decoder makes for each token from the texts' vectors `(n, hidden)`; `(tokens, hidden)`.

        Queries are the text's vector at each position; keys and values, the vector in place of the first token and the
        embeddings of the others, unmasked.
        """
        pack, attention = masked.pack, self.decoder.attention
        embeddings = self.encoder.body.embeddings
        rows = upload(np.stack([pack.token_ids, pack.positions(self._checkpoint.position_padding)]), self._device)
        text = upload(np.repeat(np.arange(len(vectors)), pack.lengths), self._device)
        query = embeddings(inputs_embeds=vectors[None, text], position_ids=rows[1:])[0]
        known = embeddings(input_ids=rows[:1], position_ids=rows[1:])[0]
        known = known.index_copy(0, upload(pack.starts, self._device), vectors.to(known.dtype))
        parts = ((attention.self.query, query), (attention.self.key, known), (attention.self.value, known))
        q, k, v = (layer(states).unflatten(-1, (-1, self._checkpoint.head_dim)) for layer, states in parts)
        attended = attend_visible(q, k, v, masked, self._device)
        made: torch.Tensor = self.decoder.feed_forward_chunk(attention.output(attended.flatten(1), query))
        return made


def attend_visible(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, masked: MaskedPack, device: torch.device
) -> torch.Tensor:
    """Attention of each token to those of its text that its mask leaves visible, and never to itself but the first.

    Texts of similar lengths go together, padded. What a token sees is put together from its text's few masks for at
    most 2^24 pairs of tokens at once: 16 MiB, or 64 where the kernel makes floats of it. A text of 8,192 tokens, which
    has 2^26, goes in 4 turns, and each is computed anew for its gradients, so that none of it is kept: forward and back
    take 0.2 GB on a CPU with 4 heads, where the scores alone are 1 GB. The masks it chooses from are 2 MiB.

    Args:
        query: `(tokens, heads, head_dim)`, as are `key` and `value`.
        key: see `query`.
        value: see `query`.
        masked: says what is visible.
        device: where all that is.

    Returns:
        `(tokens, heads, head_dim)`.
    """
    padded = Padded.of(masked.pack, device)
    rows = [x.index_select(0, padded.gather) for x in (query, key, value)]
    order = np.argsort(-masked.pack.lengths, kind="stable")  # in which the blocks have the texts
    choices = cut(masked.chosen, masked.pack.lengths)
    parts, start, done = [], 0, 0
    for texts, longest in padded.blocks:
        block = slice(start, start := start + texts * longest)
        members, done = order[done : done + texts], done + texts
        hidden = np.ones((texts, max(len(masked.hidden[i]) for i in members), longest), dtype=bool)
        chosen = np.zeros((texts, longest), dtype=np.int64)
        for row, i in enumerate(members):
            hidden[row, : len(masked.hidden[i]), : len(choices[i])] = masked.hidden[i]
            chosen[row, : len(choices[i])] = choices[i]
        q, k, v = (x[block].unflatten(0, (texts, longest)).transpose(1, 2) for x in rows)
        tables = upload(hidden, device), upload(chosen, device)
        turn = max(1, _VISIBLE // (texts * longest))
        turns = [(q[:, :, first : first + turn], first) for first in range(0, longest, turn)]
        if len(turns) == 1:
            attended = [_attend(q, k, v, *tables, 0)]
        else:
            attended = [recomputed(_attend, part, k, v, *tables, first, use_reentrant=False) for part, first in turns]
        parts.append(torch.cat(attended, dim=2).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).index_select(0, padded.scatter)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, hidden: torch.Tensor, chosen: torch.Tensor, first: int
) -> torch.Tensor:
    """Attention of some of a block's rows, from the `first` one on; `(texts, heads, rows, head_dim)`."""
    rows = torch.arange(first, first + query.shape[2], device=query.device)
    texts = torch.arange(len(chosen), device=query.device)
    visible = ~hidden[texts[:, None], chosen[:, rows]]
    visible[:, rows - first, rows] = False
    visible[:, :, 0] = True  # the text's vector
    attended: torch.Tensor = scaled_dot_product_attention(query, key, value, visible[:, None])
    return attended
