"""Texts to pre-train with, streamed from files or taken from what is in memory, and their batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from m3core.checks import check_text
from m3core.errors import InvalidInput, MissingDependency
from m3core.packing import IntArray
from m3core.records import read_objects
from m3core.tokenizer import UNCUT, M3Tokenizer
from m3core.train.pretraining.masking import MaskedPack, Masker, word_ids
from m3core.train.records import LONGEST_LINE

if TYPE_CHECKING:
    import datasets

Texts = str | Path | Iterable[str | Path | Mapping[str, Any]]
"""A file or a folder of them; a list of files, of texts, or of dicts with a `text`; a data set of `datasets` with that
column. Files hold JSON lines (`.jsonl`, `.jsonl.gz`), each an object with a `text`, or a text a line (`.txt`)."""

_SUFFIXES = (".jsonl", ".jsonl.gz", ".txt")
_SHUFFLED = 10_000  # texts to draw the next one from
_PORTION = 64  # texts to tokenize at once


def stream(source: Texts) -> "datasets.IterableDataset":
    """The texts of a source, as a data set with a column `text`; read as they are iterated.

    Args:
        source: see `Texts`. In a list, a `str` is a text and a `Path` a file.

    Raises:
        InvalidInput: there is no such file, or it is no source of texts. While texts are read: one that is none.
        MissingDependency: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency("pre-training needs datasets: pip install 'm3-retrieval[train]'") from error
    if isinstance(source, datasets.IterableDataset | datasets.Dataset):
        if "text" not in (source.column_names or ["text"]):
            raise InvalidInput(f"the data set has no column text, but {source.column_names}; rename one of them")
        return source.to_iterable_dataset() if isinstance(source, datasets.Dataset) else source
    if isinstance(source, str | Path):
        files = _files(Path(source))
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        held = list(source)
        if not all(isinstance(item, Path) for item in held):
            texts = [_text(item, f"text {number}") for number, item in enumerate(held)]
            return datasets.Dataset.from_dict({"text": texts}).to_iterable_dataset()
        files = [file for item in held if isinstance(item, Path) for file in _files(item)]
    else:
        raise InvalidInput(f"texts come from a file, a folder or a list, not {source!r}")
    if not files:
        raise InvalidInput(f"{source} holds no texts: nothing in it ends in {', '.join(_SUFFIXES)}")
    return datasets.IterableDataset.from_generator(_read, gen_kwargs={"files": files})


def described(source: Texts) -> str:
    """What a source is called in a model's card: its files' names, or how many texts there are."""
    if isinstance(source, str | Path):
        return str(source)
    if not isinstance(source, Sized):
        return "streamed texts"
    files: list[str] = [str(item) for item in source if isinstance(item, Path)] if isinstance(source, Sequence) else []
    return ", ".join(files) or f"{len(source):,} texts"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES))
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    if not path.name.endswith(_SUFFIXES):
        raise InvalidInput(f"{path}: texts come in files that end in {', '.join(_SUFFIXES)}")
    return [path]


def _read(files: list[Path]) -> Iterator[dict[str, str]]:
    for path in files:
        if path.suffix == ".txt":
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    try:
                        yield {"text": line.decode("utf-8").strip()}
                    except UnicodeDecodeError as error:
                        raise InvalidInput(f"{path}:{number}: not UTF-8 ({error})") from error
        else:
            for where, record in read_objects(path, longest=LONGEST_LINE):
                yield {"text": _text(record, where)}


def _text(item: object, name: str) -> str:
    if isinstance(item, Mapping):
        item, name = item.get("text"), f"{name}: text"
    return check_text(item, name)


class TextBatches(torch.utils.data.IterableDataset[dict[str, MaskedPack]]):
    """Batches of texts, masked anew each time they come. Endless, but for a single pass.

    A batch has as many texts as a number of tokens allows. Longer texts than the maximum length are cut into several,
    so that nothing of them is lost; empty ones are passed over. What a batch holds depends on nothing but the seed and
    its number.
    """

    def __init__(
        self,
        texts: "datasets.IterableDataset",
        tokenizer: M3Tokenizer,
        masker: Masker,
        *,
        max_length: int,
        tokens: int,
        seed: int,
        once: bool = False,
        skipped: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Reads nothing yet.

        Args:
            texts: as `stream` gives them.
            tokenizer: the model's.
            masker: masks them.
            max_length: where to cut, in tokens.
            tokens: of a batch.
            seed: of the order and of the masks.
            once: whether to end with the texts, and leave them in their order.
            skipped: how many batches to leave out, the first ones; they are tokenized, and not masked.
            process: which share of the texts to take.
            processes: of how many.
        """
        super().__init__()
        if processes > 1:
            from datasets.distributed import split_dataset_by_node

            texts = split_dataset_by_node(texts, process, processes)
        self._texts = texts if once else texts.shuffle(seed=seed, buffer_size=_SHUFFLED)
        self._tokenizer, self._masker = tokenizer, masker
        self._max_length, self._tokens, self._once = max_length, tokens, once
        self._seed = (seed, process)
        self.skipped = skipped

    def __iter__(self) -> Iterator[dict[str, MaskedPack]]:
        """Batches, under the name of the model's argument."""
        for number, batch in enumerate(self._batches()):
            if number >= self.skipped:
                ids, words = zip(*((ids, word_ids(text, starts)) for ids, text, starts in batch), strict=True)
                yield {"masked": self._masker(ids, words, np.random.default_rng([*self._seed, number]))}

    def count(self) -> int:
        """How many batches the first pass has; others have about as many."""
        return sum(1 for _ in self._one_pass(0))

    def _batches(self) -> Iterator[list[tuple[IntArray, str, IntArray]]]:
        if self._once:
            yield from self._one_pass(0)
            return
        epoch = 0
        while True:
            yield from self._one_pass(epoch)
            epoch += 1

    def _one_pass(self, epoch: int) -> Iterator[list[tuple[IntArray, str, IntArray]]]:
        """Batches of token ids, the text that they are of, and where its tokens begin."""
        batch: list[tuple[IntArray, str, IntArray]] = []
        size, empty = 0, True
        for piece in self._pieces(epoch):
            empty = False
            if batch and size + len(piece[0]) > self._tokens:
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += len(piece[0])
        if empty:
            raise InvalidInput("there are no texts to pre-train with: all are empty, or of unknown characters")
        yield batch

    def _pieces(self, epoch: int) -> Iterator[tuple[IntArray, str, IntArray]]:
        self._texts.set_epoch(epoch)
        room = self._max_length - 2
        portions = self._texts.iter(batch_size=_PORTION)
        first = 0
        for portion in cast(Iterator[dict[str, list[Any]]], portions):
            texts = [check_text(text, f"text {first + i}") for i, text in enumerate(portion["text"])]
            first += len(texts)
            tokenized, starts = self._tokenizer.located(texts, UNCUT)
            for text, ids, own in zip(texts, tokenized.token_ids, starts, strict=True):
                for begin in range(0, len(own), room):
                    piece = np.concatenate([ids[:1], ids[1:-1][begin : begin + room], ids[-1:]])
                    if not np.isin(piece, list(self._masker.special_ids)).all():
                        part, rest = own[begin : begin + room], own[begin + room :]
                        end = max(rest[0], part[-1] + 1) if len(rest) else len(text)  # a `▁` begins where the next does
                        yield piece, text[part[0] : end], part - part[0]
