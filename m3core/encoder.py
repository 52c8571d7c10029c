"""`M3Encoder`: texts in, all three representations out, from one forward pass."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from m3core.checkpoint import Checkpoint
from m3core.errors import InvalidInput, UnsupportedMode
from m3core.hub import locate
from m3core.output import MODES, Fingerprint, FloatArray, M3Output, Mode, SparseVector
from m3core.packing import IntArray, Pack, TokenBudget, run_packs
from m3core.tokenizer import (
    M3Tokenizer,
    TextCounts,
    Token,
    TokenWeight,
    check_text,
    check_texts,
    checked_length,
    iter_texts,
)

if TYPE_CHECKING:
    from m3core.backbones import Backbone
    from m3core.heads import PackOutput

_CPU_TOKENS, _ACCELERATOR_TOKENS = 2048, 32768


class M3Encoder:
    """Encodes texts with a model of the M3 families: dense, sparse (lexical) and multi-vector in one forward pass.

    ```python
    from m3core import M3Encoder

    encoder = M3Encoder()                       # BAAI/bge-m3
    encoder = M3Encoder("m3-mini")              # bundled zh/en model, no network
    encoder = M3Encoder("moka-ai/m3e-base")     # dense only
    encoder = M3Encoder("./my-finetuned-m3")    # FlagEmbedding's, sentence-transformers' or our own layout

    docs = encoder.encode_documents(["巴黎是法国的首都。", "Tokyo is the capital of Japan."])
    query = encoder.encode_queries(["法国首都在哪里？"])
    query.score(docs)                           # (1, 2) hybrid scores
    ```

    One encoder may be shared by threads; their calls take turns on the device. What else is in a call changes nothing
    but rounding: texts are packed side by side without padding, and attend to themselves only.

    Attributes:
        modes: what the model has, of `"dense"`, `"sparse"`, `"multivector"`.
        score_weights: the model's weights for (dense, sparse, multi-vector) in the hybrid score.
        max_length: the longest text in tokens, special tokens included.
        fingerprint: identifies the model and the settings that change its vectors.
    """

    def __init__(
        self,
        model: str | Path = "BAAI/bge-m3",
        *,
        device: str | None = None,
        dtype: str = "auto",
        max_length: int | None = None,
        normalize: bool | None = None,
        instruction: str | None = None,
        endpoint: str | None = None,
        revision: str | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Loads a model, from the hub's cache or the network if it is not a directory.

        Args:
            model: a hub id, a directory, or `"m3-mini"`.
            device: such as `"cpu"`, `"cuda:1"`, `"mps"`; `None` takes the best there is.
            dtype: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 where the device computes in it.
            max_length: cut texts at this many tokens, special ones included; `None` takes the model's own limit.
            normalize: whether dense vectors get unit length; `None` does as the model says (bge-m3 yes, m3e no).
            instruction: put before each query, as some models want it; bge-m3, m3e and m3-mini want none.
            endpoint: the address of a model hub or mirror; `None` takes `HF_ENDPOINT`, or else the public hub.
            revision: a hub branch, tag or commit.
            batch_tokens: the most tokens to put through the model at once; halves by itself when memory runs out.

        Raises:
            ModelNotFound: no such directory or repository.
            DownloadFailed: the hub cannot be reached, and the model is not in the cache.
            InvalidModel: the directory is incomplete, damaged, or of an unsupported kind.
            InvalidInput: an argument that cannot be used.
        """
        located = locate(str(model), revision=revision, endpoint=endpoint)
        checkpoint = Checkpoint.read(located.directory, name=located.name, revision=located.revision)
        self.max_length = checked_length(max_length, checkpoint.max_length)
        if batch_tokens is not None and (not isinstance(batch_tokens, int) or batch_tokens < 1):
            raise InvalidInput(f"batch_tokens must be a whole number from 1, not {batch_tokens!r}")
        if instruction is not None:
            check_text(instruction, "instruction")

        from m3core.backbones.torch import TorchBackbone, choose_device, choose_dtype
        from m3core.weights import load_body, load_heads

        target = choose_device(device)
        self._tokenizer = M3Tokenizer.from_directory(checkpoint.path)  # before the weights, which take longer
        body = load_body(checkpoint, choose_dtype(dtype, target), target)
        self._tokenizer.check_fits(body.config.vocab_size)
        self._backbone: Backbone = TorchBackbone(body, checkpoint)
        self._heads = load_heads(checkpoint, self._backbone, self._tokenizer.special_ids, normalize)
        self.modes: tuple[Mode, ...] = checkpoint.modes
        self.score_weights = checkpoint.score_weights
        self.fingerprint = Fingerprint(
            model=checkpoint.name,
            revision=checkpoint.revision,
            modes=self.modes,
            dense_dim=checkpoint.hidden_size,
            multivector_dim=None if self._heads.multivector is None else len(self._heads.multivector[1]),
            pooling=checkpoint.pooling,
            normalize=self._heads.normalize,
            max_length=self.max_length,
            instruction=instruction,
        )
        self._checkpoint = checkpoint
        self._budget = TokenBudget(batch_tokens or (_CPU_TOKENS if target.type == "cpu" else _ACCELERATOR_TOKENS))
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        """The model and what it has."""
        return f"M3Encoder({self._checkpoint.name!r}, device={self.device!r}, dtype={self.dtype!r}, modes={self.modes})"

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self._backbone.device)

    @property
    def dtype(self) -> str:
        """What it computes in."""
        return str(self._backbone.dtype).removeprefix("torch.")

    def encode_documents(
        self,
        texts: Iterable[str],
        *,
        modes: Iterable[Mode] | None = None,
        max_length: int | None = None,
        show_progress: bool = False,
    ) -> M3Output:
        """Encodes documents (passages).

        Args:
            texts: any number of texts, of any lengths; an empty list gives an output of length 0.
            modes: which of `"dense"`, `"sparse"`, `"multivector"`; `None` means all that the model has.
            max_length: for this call, in tokens; longer texts are cut, with a warning that counts them.
            show_progress: whether to show a progress bar.

        Returns:
            An `M3Output` in the order of `texts`. An empty text has a dense vector, no lexical weight, and a single
            multi-vector row (`</s>`).

        Raises:
            InvalidInput: not a list of texts, or a text that is not valid Unicode; named by its index.
            UnsupportedMode: the model does not have one of the modes.
            OutOfMemory: a single text does not fit into memory.
        """
        return self._encode(check_texts(texts), modes, max_length, show_progress)

    def encode_queries(
        self,
        texts: Iterable[str],
        *,
        modes: Iterable[Mode] | None = None,
        max_length: int | None = None,
        show_progress: bool = False,
    ) -> M3Output:
        """Encodes queries, with the `instruction` before each if there is one. See `encode_documents`."""
        return self._encode(self._instructed(texts), modes, max_length, show_progress)

    def iter_encode(
        self,
        texts: Iterable[str],
        *,
        modes: Iterable[Mode] | None = None,
        max_length: int | None = None,
        show_progress: bool = False,
        total: int | None = None,
        window: int = 1024,
    ) -> Iterator[M3Output]:
        """Encodes documents from a source that does not fit in memory, window by window.

        Args:
            texts: a generator, a file of lines, …; read as the results are.
            modes: as in `encode_documents`.
            max_length: as in `encode_documents`.
            show_progress: whether to show a progress bar.
            total: how many texts there will be, if that is known, for the progress bar.
            window: texts in each output but the last; the more, the better they pack.

        Yields:
            `M3Output`s, together in the order of `texts`.

        Raises:
            InvalidInput: as in `encode_documents`; the windows before it have been yielded.
        """
        if window < 1:
            raise InvalidInput(f"window must be at least 1, not {window}")
        length = checked_length(max_length, self.max_length)
        progress = partial(tqdm, total=total, unit="text", disable=not show_progress)
        return self._windows(iter_texts(texts), self._checked_modes(modes), length, progress, window)

    async def aencode_documents(
        self, texts: Iterable[str], *, modes: Iterable[Mode] | None = None, max_length: int | None = None
    ) -> M3Output:
        """`encode_documents` on the encoder's worker thread, so that the event loop stays free."""
        return await self._in_worker(partial(self._encode, check_texts(texts), modes, max_length, False))

    async def aencode_queries(
        self, texts: Iterable[str], *, modes: Iterable[Mode] | None = None, max_length: int | None = None
    ) -> M3Output:
        """`encode_queries` on the encoder's worker thread, so that the event loop stays free."""
        return await self._in_worker(partial(self._encode, self._instructed(texts), modes, max_length, False))

    def tokenize(self, text: str) -> list[Token]:
        """The tokens of a text, in order, with the characters that each stands for. No forward pass.

        Tokens that read the same stay apart. Spans may share a character where normalization makes several tokens of
        one.

        Raises:
            InvalidInput: not a str, or not valid Unicode.
        """
        return self._tokens(text)[0]

    def token_weights(self, text: str) -> list[TokenWeight]:
        """The tokens of a text as from `tokenize`, each with its lexical weight; one forward pass.

        Unlike in `M3Output.sparse`, each occurrence of a token is listed.

        Raises:
            InvalidInput: as `tokenize`.
            UnsupportedMode: the model has no sparse mode.
        """
        self._checked_modes(["sparse"])
        tokens, token_ids = self._tokens(text)
        pack = Pack(np.array([0]), token_ids, np.array([len(token_ids)]))
        with self._lock:
            weights = self._heads.token_weights(self._backbone.forward(pack), pack)[1:-1]
        return [TokenWeight(t.token, t.id, t.start, t.end, float(w)) for t, w in zip(tokens, weights, strict=True)]

    def _tokens(self, text: str) -> tuple[list[Token], IntArray]:
        tokens, tokenized = self._tokenizer.tokens(check_text(text, "text"), self.max_length)
        tokenized.counts.warn(self.max_length, self._checkpoint.languages, stacklevel=4)
        return tokens, tokenized.token_ids[0]

    def _instructed(self, texts: Iterable[str]) -> list[str]:
        instruction = self.fingerprint.instruction or ""
        return [instruction + text for text in check_texts(texts)]

    def _encode(
        self, texts: list[str], modes: Iterable[Mode] | None, max_length: int | None, show_progress: bool
    ) -> M3Output:
        wanted = self._checked_modes(modes)
        length = checked_length(max_length, self.max_length)
        tokenized = self._tokenizer.tokenize(texts, length)
        tokenized.counts.warn(length, self._checkpoint.languages, stacklevel=4)
        with tqdm(total=len(texts), unit="text", disable=not show_progress) as bar:
            return self._run(tokenized.token_ids, wanted, bar.update)

    def _windows(
        self, texts: Iterator[object], modes: Sequence[Mode], max_length: int, progress: "partial[tqdm]", window: int
    ) -> Iterator[M3Output]:
        counts = TextCounts()
        with progress() as bar:
            while batch := list(islice(texts, window)):
                tokenized = self._tokenizer.tokenize(check_texts(batch, first=counts.texts), max_length)
                counts += tokenized.counts
                yield self._run(tokenized.token_ids, modes, bar.update)
        counts.warn(max_length, self._checkpoint.languages, stacklevel=3)

    def _run(self, texts: Sequence[IntArray], modes: Sequence[Mode], advance: Callable[[int], object]) -> M3Output:
        """All of `modes` for tokenized texts, in their order."""
        dense = np.zeros((len(texts), self._checkpoint.hidden_size), dtype=np.float32)
        sparse: list[SparseVector] = [_NO_WEIGHTS] * len(texts)
        multivector: list[FloatArray] = [_NO_ROWS] * len(texts)
        with self._lock:
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
            self.score_weights,
            self.fingerprint,
        )

    def _forward(self, pack: Pack, modes: Sequence[Mode]) -> "PackOutput":
        return self._heads.apply(self._backbone.forward(pack), pack, modes)

    async def _in_worker(self, call: Callable[[], M3Output]) -> M3Output:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="m3-encoder")
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _checked_modes(self, modes: Iterable[Mode] | None) -> tuple[Mode, ...]:
        if modes is None:
            return self.modes
        wanted = [] if isinstance(modes, str) or not isinstance(modes, Iterable) else list(modes)
        if not wanted or not set(wanted) <= set(MODES):
            raise InvalidInput(f"modes must be a list of some of {', '.join(map(repr, MODES))}, not {modes!r}")
        for mode in wanted:
            if mode not in self.modes:
                raise UnsupportedMode(
                    f"{self._checkpoint.name} has no {mode} representation; it has {', '.join(self.modes)}. "
                    "BAAI/bge-m3 and m3-mini have all three"
                )
        return tuple(mode for mode in MODES if mode in wanted)


_NO_WEIGHTS = SparseVector(np.zeros(0, np.int32), np.zeros(0, np.float32))
_NO_ROWS: FloatArray = np.zeros((0, 0), np.float32)
