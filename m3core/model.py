"""`Model`: a model in memory. Tokenizer, backbone and heads together: texts in, representations out."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from m3core.checkpoint import Checkpoint
from m3core.output import Fingerprint, FloatArray, M3Output, Mode, SparseVector
from m3core.packing import IntArray, Pack, TokenBudget, run_packs
from m3core.tokenizer import M3Tokenizer, TextCounts, TokenWeight

if TYPE_CHECKING:
    from m3core.heads import PackOutput

_CPU_TOKENS, _ACCELERATOR_TOKENS = 2048, 32768

Advance = Callable[[int], object]
"""Is told how many more texts are done."""


class Model:
    """A loaded checkpoint, which threads may share: their forward passes take turns.

    Attributes:
        tokenizer: its own.
        backbone: its own.
        normalize: whether dense vectors get unit length.
        multivector_dim: width of a multi-vector's rows, or `None`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | None,
        dtype: str,
        normalize: bool | None,
        batch_tokens: int | None,
    ) -> None:
        """Loads it. Arguments as of `M3Encoder`."""
        from m3core.backbones.torch import TorchBackbone, choose_device, choose_dtype
        from m3core.weights import load_body, load_heads

        target = choose_device(device)
        self.tokenizer = M3Tokenizer.from_directory(checkpoint.path)  # before the weights, which take longer
        body = load_body(checkpoint, choose_dtype(dtype, target), target)
        self.tokenizer.check_fits(body.config.vocab_size)
        self.backbone = TorchBackbone(body, checkpoint)
        self._heads = load_heads(checkpoint, self.backbone, self.tokenizer.special_ids, normalize)
        self.normalize = self._heads.normalize
        self.multivector_dim = None if self._heads.multivector is None else len(self._heads.multivector[1])
        self._checkpoint = checkpoint
        self._budget = TokenBudget(batch_tokens or (_CPU_TOKENS if target.type == "cpu" else _ACCELERATOR_TOKENS))
        self._lock = threading.Lock()

    def represent(
        self, texts: Sequence[str], modes: Sequence[Mode], max_length: int, fingerprint: Fingerprint, advance: Advance
    ) -> tuple[M3Output, TextCounts]:
        """The representations of texts, in one forward pass, and what became of the texts."""
        tokenized = self.tokenizer.tokenize(texts, max_length)
        return self._run(tokenized.token_ids, modes, fingerprint, advance), tokenized.counts

    def token_weights(self, text: str, max_length: int) -> tuple[list[TokenWeight], TextCounts]:
        """The tokens of a text with their lexical weights, and what became of it."""
        tokens, tokenized = self.tokenizer.tokens(text, max_length)
        token_ids = tokenized.token_ids[0]
        pack = Pack(np.array([0]), token_ids, np.array([len(token_ids)]))
        with self._lock:
            weights = self._heads.token_weights(self.backbone.forward(pack), pack)[1:-1]
        weighted = [TokenWeight(t.token, t.id, t.start, t.end, float(w)) for t, w in zip(tokens, weights, strict=True)]
        return weighted, tokenized.counts

    def _run(
        self, texts: Sequence[IntArray], modes: Sequence[Mode], fingerprint: Fingerprint, advance: Advance
    ) -> M3Output:
        dense = np.zeros((len(texts), self._checkpoint.hidden_size), dtype=np.float32)
        sparse: list[SparseVector] = [_NO_WEIGHTS] * len(texts)
        multivector: list[FloatArray] = [_NO_ROWS] * len(texts)
        for pack, result in run_packs(texts, self._budget, partial(self._forward, modes=modes)):
            for row, member in enumerate(pack.members.tolist()):
                if result.sparse is not None:
                    sparse[member] = result.sparse[row]
                if result.multivector is not None:
                    multivector[member] = result.multivector[row]
            if result.dense is not None:
                dense[pack.members] = result.dense
            advance(len(pack.members))
        return M3Output(
            dense if "dense" in modes else None,
            sparse if "sparse" in modes else None,
            multivector if "multivector" in modes else None,
            self._checkpoint.score_weights,
            fingerprint,
        )

    def _forward(self, pack: Pack, modes: Sequence[Mode]) -> "PackOutput":
        with self._lock:  # for a pack only: a query need not wait for all of a long job
            return self._heads.apply(self.backbone.forward(pack), pack, modes)


_NO_WEIGHTS = SparseVector(np.zeros(0, np.int32), np.zeros(0, np.float32))
_NO_ROWS: FloatArray = np.zeros((0, 0), np.float32)
