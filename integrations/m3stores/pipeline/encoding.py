"""`encode`: a source into files, without a collection. What was encoded once can be loaded as often as need be."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from m3core import InvalidInput, M3Encoder, MissingDependency, Mode
from m3core.parts import completed
from m3stores.arguments import checked_modes
from m3stores.locking import locked
from m3stores.pipeline.job import Target, job
from m3stores.pipeline.lines import LinesWriter
from m3stores.pipeline.running import run
from m3stores.pipeline.sources import Source
from m3stores.pipeline.summary import Summary


def encode(
    source: Source,
    encoder: M3Encoder,
    target: str | Path,
    *,
    modes: Sequence[Mode] | None = None,
    text_column: str = "text",
    id_column: str | None = None,
    encoding: str = "utf-8-sig",
    tokens: int | None = None,
    overlap: int | None = None,
    rejects: str | Path | None = None,
    batch_size: int | None = None,
    ray: str | None = None,
    show_progress: bool = False,
) -> Summary:
    """Reads, splits and encodes a source of any size, for `load`, or for other programs.

    ```python
    encode("docs/", M3Encoder(), "docs.parquet")
    load("docs.parquet", QdrantStore("docs", path="./index"))
    ```

    Args:
        source: as of `index`.
        encoder: encodes the passages.
        target: a name that ends in `.parquet`, of a folder of such files, each there whole or not at all: a run that
            was broken off is gone on with by the same call, and loses the last minute at most. Or one that ends in
            `.jsonl`, of a file that takes its place when it is complete.
        modes: `None` means all that the model has.
        text_column: as of `index`, and so are all others.
        id_column: see there.
        encoding: see there.
        tokens: see there.
        overlap: see there.
        rejects: see there.
        batch_size: see there.
        ray: see there; the files are written here.
        show_progress: whether to show a progress bar.

    Returns:
        What was done.

    Raises:
        InvalidInput: no such source, an empty one, a target that cannot be written, or another argument that cannot be
            used.
        CollectionLocked: another run writes to the target.
        CollectionMismatch: in the folder lies what another encoder made, or in other modes, or a document as it no
            longer is.
        MissingDependency: semantic-text-splitter, pyarrow for Parquet, or Ray, is not installed.
        StoreError: a file cannot be written, or the cluster failed.
    """
    check_target(Path(target), source)
    wanted = encoder.modes if modes is None else checked_modes(modes)
    with (
        _writer(Path(target), encoder, wanted) as writer,
        job(
            source,
            encoder,
            writer,
            wanted,
            text_column=text_column,
            id_column=id_column,
            encoding=encoding,
            tokens=tokens,
            overlap=overlap,
            rejects=rejects,
            batch_size=batch_size,
            show_progress=show_progress,
        ) as work,
    ):
        run(work, ray)
    return work.summary


def check_target(target: Path, source: Source) -> None:
    """Refuses a target that cannot be written, or is read."""
    if target.suffix not in (".jsonl", ".parquet"):
        raise InvalidInput(f"the target must end in .jsonl or .parquet, not {target.name!r}")
    if not target.parent.is_dir():
        raise InvalidInput(f"{target} cannot be written: its folder must exist")
    if target.suffix == ".jsonl" and target.is_dir():
        raise InvalidInput(f"{target} is a folder: give another target")
    if isinstance(source, str | Path) and Path(source).resolve() in (target.resolve(), *target.resolve().parents):
        raise InvalidInput(f"{target} lies in the source, and would be read with it next time: give another target")


@contextmanager
def _writer(target: Path, encoder: M3Encoder, modes: Sequence[Mode]) -> Iterator[Target]:
    if target.suffix == ".jsonl":
        with (
            locked(target.with_name(f".{target.name}.lock"), f"the file {target}"),
            completed(target) as partial,
            closing(LinesWriter(partial)) as lines,
        ):
            yield lines
        return
    try:
        from m3stores.pipeline.parts import PartsWriter
        from m3stores.pipeline.tables import Origin
    except ImportError as error:
        raise MissingDependency("Parquet needs pyarrow: pip install 'm3-retrieval[parquet]'") from error
    with closing(PartsWriter(target)) as parts:
        parts.check(Origin(encoder.score_weights, encoder.fingerprint), modes)
        yield parts
