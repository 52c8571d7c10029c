"""`M3Encoder`: texts in, all three representations out, from one forward pass."""

import asyncio
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from m3core.cache import VectorCache
from m3core.calls import Calls
from m3core.checkpoint import Checkpoint
from m3core.checks import check_text, check_texts, checked_length, checked_mcls, iter_texts
from m3core.errors import InvalidInput
from m3core.hub import DEFAULT, locate
from m3core.model import Model
from m3core.output import Fingerprint, M3Output, Mode
from m3core.tokenizer import UNCUT, Token, TokenWeight

_PATIENCE = 1.0  # seconds; garbage is collected in any thread, also in one that the encoder's own would wait for


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

    Threads and tasks of asyncio may share an encoder: what they ask for at the same time goes through the model
    together, in whatever modes. Queries go first: one that comes while documents are under way waits for one layer of
    the model only; with OpenVINO for 256 tokens or one longer text, on an accelerator for two packs at most. What else
    is in a pack changes nothing but rounding: texts lie side by side without padding, and attend to themselves only.

    It works in the process that loaded it, not in forked children. `close`, or `with M3Encoder(...) as encoder:`, lets
    go of the model's memory; so does the collection of an encoder that nobody uses any more.

    Attributes:
        modes: what the model has, of `"dense"`, `"sparse"`, `"multivector"`.
        score_weights: the model's weights for (dense, sparse, multi-vector) in the hybrid score.
        max_length: the longest text in tokens, special tokens included.
        fingerprint: identifies the model and the settings that change its vectors.
        arguments: what it was made with, by name, but for the token; what makes another one like it.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT,
        *,
        device: str | list[str] | tuple[str, ...] | None = None,
        dtype: str = "auto",
        engine: str = "auto",
        attention: str = "auto",
        max_length: int | None = None,
        normalize: bool | None = None,
        mcls: int | None = None,
        instruction: str | None = None,
        endpoint: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_folder: str | Path | None = None,
        local_files_only: bool = False,
        batch_tokens: int | None = None,
        cache: VectorCache | str | Path | None = None,
    ) -> None:
        """Loads a model, from the hub's cache or the network if it is not a directory.

        Args:
            model: a hub id, a directory, or `"m3-mini"`.
            device: such as `"cpu"`, `"cuda:1"`, `"mps"`; `None` takes the best there is. A list, as
                `["cuda:0", "cuda:1"]`, loads the model on each, in processes of their own, which share the work.
            dtype: `"float32"`, `"bfloat16"`, `"int8"`, or `"auto"`: bfloat16 where the device computes in it, else
                float32. int8 is for CPUs, with OpenVINO: several times as fast, with vectors a little different (dense
                cosine 0.999). The first start with it writes `int8.safetensors` beside the model.
            engine: what runs the model: `"torch"`, `"openvino"` (CPUs; the extra `openvino`), or `"auto"`: OpenVINO on
                an x86-64 CPU where it is installed, else torch.
            attention: the kernel: `"varlen"` (torch's own) or `"flash"` (the flash-attn package's) for CUDA from Ampere
                on in half precision, `"padded"` for other accelerators, `"sdpa"` for CPUs; `"auto"` takes the best.
            max_length: cut texts at this many tokens, special ones included; `None` takes the model's own limit.
            normalize: whether dense vectors get unit length; `None` does as the model says (bge-m3 yes, m3e no).
            mcls: put a CLS token before every so many tokens of a text, 256 in the paper, and take the mean of all for
                dense, for queries and documents (MCLS, BGE-M3, arXiv 2402.03216, appendix B.2). They count towards
                `max_length`, and have no weight and no multi-vector row. `None` puts one before the first only.
            instruction: put before each query, as some models want it; bge-m3, m3e and m3-mini want none.
            endpoint: the address of a model hub or mirror to ask before `M3_ENDPOINTS`, `HF_ENDPOINT` and the public
                ones. See `m3core.hub.locate`.
            revision: a hub branch, tag or commit.
            token: for private repositories; `None` takes `HF_TOKEN`, or what `hf auth login` left.
            cache_folder: where downloaded models are kept; `None` takes `HF_HUB_CACHE`, or else the hub's usual place.
            local_files_only: asks no hub; also by `HF_HUB_OFFLINE=1`.
            batch_tokens: the most tokens to put through the model at once; halves by itself when memory runs out.
            cache: a `VectorCache`, or the file of one, so that no text is encoded twice; `None` is no cache.

        Raises:
            ModelNotFound: no such directory or repository.
            DownloadFailed: the model is not in the cache, and no hub delivered it.
            InvalidModel: the directory is incomplete, damaged, or of an unsupported kind.
            InvalidInput: an argument that cannot be used.
            MissingDependency: the engine is not installed.
            UnsupportedMode: `mcls` with a model that does not pool by CLS, such as m3e.
            WorkerDied: the process for one of several devices ended before it had loaded the model.
        """
        self.arguments: dict[str, Any] = {
            "model": str(model),
            "device": list(device) if isinstance(device, list | tuple) else device,
            "dtype": dtype,
            "engine": engine,
            "attention": attention,
            "max_length": max_length,
            "normalize": normalize,
            "mcls": mcls,
            "instruction": instruction,
            "endpoint": endpoint,
            "revision": revision,
            "cache_folder": cache_folder,
            "local_files_only": local_files_only,
            "batch_tokens": batch_tokens,
            "cache": str(cache) if isinstance(cache, Path) else cache,
        }
        located = locate(
            str(model),
            revision=revision,
            endpoint=endpoint,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        checkpoint = Checkpoint.read(located.directory, name=located.name, revision=located.revision)
        self.max_length = checked_length(max_length, checkpoint.max_length)
        mcls = checked_mcls(mcls, checkpoint.max_length, checkpoint.pooling, checkpoint.name)
        if batch_tokens is not None and (not isinstance(batch_tokens, int) or batch_tokens < 1):
            raise InvalidInput(f"batch_tokens must be a whole number from 1, not {batch_tokens!r}")
        if instruction is not None:
            check_text(instruction, "instruction")
        kept = VectorCache(cache) if isinstance(cache, str | Path) else cache
        self._model = Model(
            checkpoint,
            device=device,
            engine=engine,
            dtype=dtype,
            attention=attention,
            normalize=normalize,
            mcls=mcls,
            batch_tokens=batch_tokens,
        )
        self.modes: tuple[Mode, ...] = checkpoint.modes
        self.score_weights = checkpoint.score_weights
        self.fingerprint = Fingerprint(
            model=checkpoint.name,
            revision=checkpoint.revision,
            modes=self.modes,
            dense_dim=checkpoint.dense_dim,
            multivector_dim=self._model.traits[0].multivector_dim,
            pooling=checkpoint.pooling,
            normalize=self._model.traits[0].normalize,
            max_length=self.max_length,
            instruction=instruction,
            mcls=mcls,
        )
        self._checkpoint = checkpoint
        self._calls = Calls(self._model, self.fingerprint, checkpoint.languages, kept)
        self._end = weakref.finalize(self, self._calls.end, _PATIENCE)

    def __repr__(self) -> str:
        """The model and what it has."""
        return f"M3Encoder({self._checkpoint.name!r}, device={self.device!r}, dtype={self.dtype!r}, modes={self.modes})"

    @property
    def device(self) -> str:
        """Where the model runs; several devices are separated by commas."""
        return ", ".join(traits.device for traits in self._model.traits)

    @property
    def engine(self) -> str:
        """What runs the model: `"torch"` or `"openvino"`."""
        return str(self._model.traits[0].engine)

    @property
    def dtype(self) -> str:
        """What it computes in."""
        return str(self._model.traits[0].dtype)

    @property
    def attention(self) -> str:
        """The kernel that attends."""
        return str(self._model.traits[0].attention)

    @property
    def cache(self) -> VectorCache | None:
        """Where representations are kept, or `None`. May be set at any time."""
        return self._calls.cache

    @cache.setter
    def cache(self, cache: VectorCache | None) -> None:
        self._calls.cache = cache

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used: it was closed, or belongs to the process that this one was forked from."""
        return self._model.scheduler.closed

    def close(self) -> None:
        """Ends its threads and processes, and lets go of the model's memory. Calls that are not done fail.

        Those, and calls that come later, raise `EncoderClosed`.
        """
        if self._end.detach():
            self._calls.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def warm_up(self) -> None:
        """Runs a short text and a full pack through the model, so that a server's first call is not its slow one.

        It also finds out how much fits into memory, if that is less than `batch_tokens`.
        """
        self._model.warm_up(self.max_length)

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
            EncoderClosed: the encoder was closed, or belongs to the process that this one was forked from.
            WorkerDied: the process of one of several devices ended by itself over these texts, twice.
        """
        return self._calls.encode(check_texts(texts), self._calls.checked(modes, max_length), show_progress)

    def encode_queries(
        self,
        texts: Iterable[str],
        *,
        modes: Iterable[Mode] | None = None,
        max_length: int | None = None,
        show_progress: bool = False,
    ) -> M3Output:
        """Encodes queries, with the `instruction` before each if there is one. See `encode_documents`."""
        call = self._calls.checked(modes, max_length, queries=True)
        return self._calls.encode(self._instructed(texts), call, show_progress)

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
        call = self._calls.checked(modes, max_length)
        return self._held(
            self._calls.windows(iter_texts(texts), call, window, total=total, show_progress=show_progress)
        )

    def _held(self, windows: Iterator[M3Output]) -> Iterator[M3Output]:
        """Keeps the encoder until the last one."""
        yield from windows

    async def aencode_documents(
        self, texts: Iterable[str], *, modes: Iterable[Mode] | None = None, max_length: int | None = None
    ) -> M3Output:
        """`encode_documents` on a thread of the encoder's own, so that the event loop stays free.

        A task that is cancelled takes its texts back; those in the pack that is under way are lost.
        """
        return await self._calls.aencode(check_texts(texts), self._calls.checked(modes, max_length))

    async def aencode_queries(
        self, texts: Iterable[str], *, modes: Iterable[Mode] | None = None, max_length: int | None = None
    ) -> M3Output:
        """`encode_queries` on a thread of the encoder's own. See `aencode_documents`."""
        return await self._calls.aencode(self._instructed(texts), self._calls.checked(modes, max_length, queries=True))

    def tokenize(self, text: str, *, quiet: bool = False) -> list[Token]:
        """The tokens of a text, in order, with the characters that each stands for. No forward pass.

        Tokens that read the same stay apart. Spans may share a character where normalization makes several tokens of
        one.

        Args:
            text: any.
            quiet: do not warn of a text that is cut or that the model cannot read, because it was said before.

        Raises:
            InvalidInput: not a str, or not valid Unicode.
        """
        tokens, tokenized = self._model.tokenizer.tokens(check_text(text, "text"), self.max_length)
        if not quiet:
            tokenized.counts.warn(self.max_length, self._checkpoint.languages, stacklevel=3)
        return tokens

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """How long each text is before it is cut, in tokens as `max_length` counts them: special ones included.

        Raises:
            InvalidInput: not a list of texts, or a text that is not valid Unicode; named by its index.
        """
        return [len(ids) for ids in self._model.tokenizer.tokenize(check_texts(texts), UNCUT).token_ids]

    def tokenizer_definition(self) -> str:
        """The tokenizer as Hugging Face's `tokenizer.json` has it, for programs that count with it, such as splitters.

        It cuts and pads nothing.
        """
        return self._model.tokenizer.definition()

    def token_weights(self, text: str) -> list[TokenWeight]:
        """The tokens of a text as from `tokenize`, each with its lexical weight; one forward pass.

        Unlike in `M3Output.sparse`, each occurrence of a token is listed.

        Raises:
            InvalidInput: as `tokenize`.
            UnsupportedMode: the model has no sparse mode.
        """
        self._calls.checked(["sparse"], None)
        weights, counts = self._model.token_weights(check_text(text, "text"), self.max_length)
        counts.warn(self.max_length, self._checkpoint.languages, stacklevel=3)
        return weights

    def _instructed(self, texts: Iterable[str]) -> list[str]:
        instruction = self.fingerprint.instruction or ""
        return [instruction + text for text in check_texts(texts)]
