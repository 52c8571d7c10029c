"""Sources of documents: files, folders, data sets, and whatever gives dicts."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from m3core import InvalidInput
from m3stores.pipeline.documents import Columns, Document, Reject
from m3stores.pipeline.formats import SUFFIXES, check_readers, read_file

Source = str | Path | Iterable[Mapping[str, Any]]
"""A file, a folder, a data set of `datasets`, or anything else that gives dicts."""

_CORPUS = "corpus.jsonl"


class Documents:
    """The documents of a source, read as they are iterated, once.

    Attributes:
        total: how many bytes of files, or else records, there are; `None` if nobody knows.
        done: how many of them have been read.
        unit: `"B"` or `"record"`.
    """

    def __init__(self, source: Source, columns: Columns, encoding: str) -> None:
        """Looks for files, and reads nothing yet.

        Raises:
            InvalidInput: there is no such file, a folder without any that can be read, or no source at all.
        """
        self._columns, self._encoding = columns, encoding
        self._files: list[tuple[Path, str]] | None = None
        self._records: Iterable[Mapping[str, Any]] = ()
        self.done = 0
        self.total: int | None = None
        self.unit = "B"
        if isinstance(source, str | Path):
            self._files = [(path.absolute(), name) for path, name in files_of(Path(source))]
            self.total = sum(_size(path) for path, _ in self._files)
        elif isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
            self._records, self.unit = source, "record"
            self.total = len(source) if isinstance(source, Sized) else None
        else:
            raise InvalidInput(f"a source is a file, a folder or a list of dicts, not {source!r}")

    def __iter__(self) -> Iterator[Document | Reject]:
        """Documents, and what cannot be used in its place."""
        if self._files is None:
            yield from self._of_records()
            return
        for path, name in self._files:
            end = self.done + _size(path)
            for item in read_file(path, name, self._columns, self._encoding):
                yield item
                if isinstance(item, Document):
                    self.done = min(end, self.done + len(item.text.encode(errors="replace")))
            self.done = end

    def _of_records(self) -> Iterator[Document | Reject]:
        for number, record in enumerate(self._records):
            where = f"record {number}"
            try:
                if not isinstance(record, Mapping):
                    raise InvalidInput(f"{where} is a {type(record).__name__}, not a dict")
                yield self._columns.document(record, "record", number, where)
            except InvalidInput as error:
                yield Reject(where, str(error))
            self.done += 1


def files_of(source: Path) -> list[tuple[Path, str]]:
    """The files of a source, with the names that they go by.

    A folder stands for all files below it that can be read, in the order of their paths, which begin with its own name;
    what begins with a dot is passed over. One in BEIR's layout stands for its corpus alone: its other files are
    questions and judgements. Links to folders are not followed; a file is read once, whatever links to it.

    Raises:
        InvalidInput: there is no such file or folder, it cannot be read, or it has nothing that can.
        MissingDependency: a package is not installed that some of them need.
    """
    found = _found(source)
    if not any(_size(path) for path, _ in found):
        raise InvalidInput(f"there is nothing to read in {source}: it is empty")
    check_readers(path for path, _ in found)
    return found


def _found(source: Path) -> list[tuple[Path, str]]:
    if source.is_file():
        if not source.name.lower().endswith(SUFFIXES):
            raise InvalidInput(f"{source}: files to index end in {', '.join(SUFFIXES)}")
        return [(source, source.name)]
    if not source.is_dir():
        raise InvalidInput(f"there is no file or folder {source}")
    if (source / _CORPUS).is_file():
        return [(source / _CORPUS, _CORPUS)]
    root = source.resolve()
    below = ((path, path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file())
    found = [
        (path, name)
        for path, name in below
        if name.name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in name.parts)
    ]
    if not found:
        raise InvalidInput(f"there is nothing to index in {source}: no file in it ends in {', '.join(SUFFIXES)}")
    targets = {root / name for path, name in found if not path.is_symlink()}
    named = []
    for path, name in found:
        if path.is_symlink():
            target = path.resolve()
            if target in targets:
                continue
            targets.add(target)
        named.append((path, f"{root.name}/{name.as_posix()}"))
    return named


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone meanwhile; reading it says so
        return 0
