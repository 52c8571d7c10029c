"""Adding representations to a collection that has been made without them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tqdm import tqdm

from m3core import InvalidInput, M3Output, Mode, Record, UnsupportedMode
from m3stores.checks import check_output
from m3stores.collection import Schema
from m3stores.engine import Engine

Encode = Callable[[list[Record]], M3Output]
_PAGE = 64


@dataclass
class Growing:
    """Encodes all records that lack one of the modes, stores what they lack, and then changes the schema.

    Until then the collection is what it was. Records that have all already, from a run that was killed, are left.

    Attributes:
        engine: of the collection.
        collection: its name.
        schema: what it holds now.
        modes: to be added.
        encode: makes them.
        show_progress: whether to show a progress bar.
        grown: what it will hold, as soon as that is known.
    """

    engine: Engine
    collection: str
    schema: Schema
    modes: tuple[Mode, ...]
    encode: Encode
    show_progress: bool
    grown: Schema | None = None

    async def run(self) -> None:
        """Does it."""
        if not await self.engine.count(None):
            raise InvalidInput(
                f"collection {self.collection!r} has no records: drop() it; the next upsert decides its modes"
            )
        while await self._pass():  # until nothing lacks anything: records may be written meanwhile
            pass
        if self.grown is None:  # a run that was killed has done all but the end
            (record, *_) = (await self.engine.page(None, None, 1, ())).records
            self._encoded([record])
        assert self.grown is not None
        await self.engine.become(self.grown)
        while await self._pass():  # what was written just before
            pass

    async def _pass(self) -> int:
        """Goes through all records. Returns how many lacked something."""
        lacked, start, more = 0, None, True
        total = await self.engine.count(None)
        with tqdm(total=total, unit="record", desc="Adding modes", disable=not self.show_progress) as bar:
            while more:
                page = await self.engine.page(None, start, _PAGE, ())
                lacking = list(await self.engine.lacking([record.id for record in page.records], self.modes))
                if lacking:
                    hashes = await self.engine.hashes(lacking)  # before they are read: what changes then is left
                    records = list((await self.engine.read(list(hashes))).values())
                    if records:
                        await self._fill(records, hashes)
                bar.update(len(page.records))
                lacked, start, more = lacked + len(lacking), page.next, page.next is not None
        return lacked

    async def _fill(self, records: list[Record], hashes: dict[str, str]) -> None:
        known = self.grown is not None
        output = self._encoded(records)
        assert self.grown is not None
        if not known:
            await self.engine.extend(self.grown)
        await self.engine.fill([record.id for record in records], output, hashes)

    def _encoded(self, records: list[Record]) -> M3Output:
        """The wanted modes of these records, checked; the first ones decide what the collection will hold."""
        output = self.encode(records)
        check_output(output, [f"record {record.id!r}" for record in records])
        missing = [mode for mode in self.modes if mode not in output.modes]
        if missing:
            raise UnsupportedMode(
                f"the new representations lack {', '.join(missing)}; they have {', '.join(output.modes)}: encode with "
                f"modes={list(self.modes)}, by a model that has them"
            )
        unwanted: dict[str, None] = {mode: None for mode in output.modes if mode not in self.modes}
        output = replace(output, **unwanted)  # type: ignore[arg-type]
        schema = self.grown or self.schema
        schema.check_fingerprint(output.fingerprint, self.collection, self.engine.address)
        if self.grown is None:
            self.grown = self.schema.with_modes_of(Schema.of(output)).adopted(output.fingerprint)
        self.grown.check_vectors(output, self.modes, self.collection)
        return output
