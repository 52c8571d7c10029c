"""Adding representations to a collection that has been made without them."""

from collections.abc import Callable
from dataclasses import replace

from tqdm import tqdm

from m3core import InvalidInput, M3Output, Mode, Record, UnsupportedMode
from m3stores.checks import check_output
from m3stores.collection import Schema
from m3stores.engine import Engine

Encode = Callable[[list[Record]], M3Output]
_PAGE = 64


async def add_modes(
    engine: Engine, collection: str, schema: Schema, modes: tuple[Mode, ...], encode: Encode, show_progress: bool
) -> None:
    """Encodes all records that lack one of the modes, stores what they lack, and then changes the schema.

    Until then the collection is what it was. Records that have all already, from a run that was killed, are left.
    """
    total = await engine.count(None)
    if not total:
        raise InvalidInput(f"collection {collection!r} has no records: drop() it; the next upsert decides its modes")
    grown: Schema | None = None
    filled = total
    while filled:  # until nothing lacks anything: records may be written meanwhile
        filled, start, more = 0, None, True
        with tqdm(total=total, unit="record", desc="Adding modes", disable=not show_progress) as bar:
            while more:
                page = await engine.page(None, start, _PAGE, ())
                ids = list(await engine.lacking([record.id for record in page.records], modes))
                before = await engine.hashes(ids) if ids else {}
                records = list((await engine.read(list(before))).values()) if before else []
                if records:
                    output = _checked(encode(records), records, modes)
                    schema.check_fingerprint(output.fingerprint, collection, engine.address)
                    if grown is None:
                        grown = schema.with_modes_of(Schema.of(output)).adopted(output.fingerprint)
                        await engine.extend(grown)
                    grown.check_vectors(output, modes, collection)
                    now = await engine.hashes(list(before))
                    same = [row for row, record in enumerate(records) if now.get(record.id) == before[record.id]]
                    if same:  # others were written or deleted while they were encoded: their turn comes again
                        await engine.fill([records[row].id for row in same], output[same])
                bar.update(len(page.records))
                filled, start, more = filled + len(records), page.next, page.next is not None
    await engine.become(grown or schema.with_modes_of(await _present(engine, modes)))


async def _present(engine: Engine, modes: tuple[Mode, ...]) -> Schema:
    """What records hold by these modes already."""
    page = await engine.page(None, None, 1, modes)
    assert page.output is not None
    return Schema.of(page.output)


def _checked(output: M3Output, records: list[Record], modes: tuple[Mode, ...]) -> M3Output:
    """The wanted modes of what `encode` returned."""
    check_output(output, [f"record {record.id!r}" for record in records])
    missing = [mode for mode in modes if mode not in output.modes]
    if missing:
        raise UnsupportedMode(
            f"the new representations lack {', '.join(missing)}; they have {', '.join(output.modes)}: encode with "
            f"modes={list(modes)}, by a model that has them"
        )
    unwanted: dict[str, None] = {mode: None for mode in output.modes if mode not in modes}
    return replace(output, **unwanted)  # type: ignore[arg-type]
