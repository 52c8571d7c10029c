"""Moving a collection from one store to another: from a laptop to a server, say."""

from dataclasses import replace

from tqdm import tqdm

from m3core import CollectionMismatch, Fingerprint, InvalidInput, StoreError
from m3stores.store import HybridStore

_PAGE = 256


def migrate(
    source: HybridStore,
    target: HybridStore,
    *,
    made_by: Fingerprint | None = None,
    show_progress: bool = False,
) -> int:
    """Copies all records with their representations. Nothing is encoded anew, and the source stays as it is.

    Run again after an interruption, it goes on: what the target has already is not written again.

    ```python
    from m3stores import QdrantStore, migrate

    with QdrantStore("debate", path="./index") as here, QdrantStore("debate", url="http://localhost:6333") as there:
        migrate(here, there, show_progress=True)
    ```

    Args:
        source: with records.
        target: empty, or with the same modes by the same encoder. Its other records stay.
        made_by: the encoder's fingerprint, if the source is a collection of another program, which does not know it.
        show_progress: whether to show a progress bar.

    Returns:
        How many records were written; those that were there already are not counted.

    Raises:
        InvalidInput: the source is empty, or has a record that the target cannot hold; it is named.
        CollectionMismatch: the target holds vectors of another encoder or other modes, or the source's is unknown.
        StoreError: a store failed, or the target does not have every record in the end.
    """
    schema, total = source.schema, source.count()
    if schema is None or not total:
        raise InvalidInput(f"collection {source.collection!r} is empty: there is nothing to move")
    if schema.foreign and made_by is None:
        raise CollectionMismatch(
            f"another program made the collection {source.collection!r}: say with made_by= which encoder it has"
        )
    if made_by is not None and not schema.foreign and schema.fingerprint not in (None, made_by):
        schema.check_fingerprint(made_by, source.collection, None)
    written = there = 0
    with tqdm(total=total, unit="record", desc="Moving", disable=not show_progress) as bar:
        for page in source.scroll(size=_PAGE, with_vectors=True):
            assert page.output is not None
            output = page.output if made_by is None else replace(page.output, fingerprint=made_by)
            written += len(target.upsert(page.records, output))
            there += len(target.get([record.id for record in page.records]))
            bar.update(len(page.records))
    if there < total:
        raise StoreError(
            f"{there} of {total} records are in {target!r}: records were deleted or written meanwhile; run it again"
        )
    return written
