"""What a store does, written once for blocking and for async engines: checks first, then the engine."""

from collections.abc import Mapping, Sequence

from m3core import CollectionMismatch, Fusion, InvalidInput, M3Output, Mode, Record, SparseVector, WeightedSum
from m3core.output import MODES, FloatArray
from m3stores.arguments import MOST, checked_ids, checked_modes, native_filter, number, whole
from m3stores.checks import check_output, checked_records
from m3stores.collection import Comparison, Hit, Page, Schema
from m3stores.engine import Engine
from m3stores.keys import Keys, content_hash, text_hash
from m3stores.searching import Plan, check_queries, search

_LEAST_CANDIDATES, _CANDIDATES_PER_HIT = 50, 5


class Operations:
    """The operations of `HybridStore`, which documents them, as coroutines."""

    def __init__(self, collection: str, engine: Engine, adopt: bool = False) -> None:
        self.collection = collection
        self.engine = engine
        self._adopt = adopt

    async def upsert(self, records: Sequence[Record], output: M3Output) -> list[str]:
        records = checked_records(list(records))
        check_output(output, [f"record {r.id!r}" for r in records])
        self.engine.check(records)
        if not records:
            return []
        schema = await self.engine.schema(fresh=True) or await self.engine.create(Schema.of(output))
        schema.check_fingerprint(output.fingerprint, self.collection, self.engine.address)
        if output.modes != schema.modes:
            raise CollectionMismatch(
                f"collection {self.collection!r} holds {', '.join(schema.modes)}, and these are "
                f"{', '.join(output.modes)}: encode with modes={list(schema.modes)}"
            )
        schema.check_vectors(output, schema.modes, self.collection)
        self.check_ours(schema)
        if schema.foreign:
            await self.engine.become(schema.adopted(output.fingerprint))
        hashes = [content_hash(record, output, row) for row, record in enumerate(records)]
        held = await self.engine.hashes([record.id for record in records])
        changed = [row for row, record in enumerate(records) if held.get(record.id) != hashes[row]]
        if len(changed) < len(records):
            records, output, hashes = [records[i] for i in changed], output[changed], [hashes[i] for i in changed]
        if changed:
            await self.engine.write(records, output, hashes)
        return [record.id for record in records]

    async def compare(self, records: Sequence[Record]) -> Comparison:
        records = checked_records(list(records))
        self.engine.check(records)
        if not records or await self.engine.schema() is None:
            return Comparison(records, len(records))
        held = await self.engine.hashes([record.id for record in records])
        differing = [record for record in records if not held.get(record.id, "").startswith(text_hash(record))]
        return Comparison(differing, sum(record.id not in held for record in differing))

    async def keys(self) -> Keys:
        if await self.engine.schema() is None:
            return Keys.of({})
        return Keys.joined([Keys.of(contents) async for contents in self.engine.contents()])

    def check_ours(self, schema: Schema) -> None:
        """Refuses to change a collection of another program that was not to be adopted."""
        if schema.foreign and not self._adopt:
            raise CollectionMismatch(
                f"another program made the collection {self.collection!r}, so that nobody knows its encoder: open it "
                "with adopt=True to change it and if new vectors come from the same one, or use another collection"
            )

    async def _changeable(self) -> bool:
        """Whether there is a collection, which may be changed."""
        schema = await self.engine.schema()
        if schema is not None:
            self.check_ours(schema)
        return schema is not None

    async def delete(self, ids: Sequence[str] | None = None, *, filter: object = None) -> None:
        if (ids is None) == (filter is None):
            raise InvalidInput("delete takes either ids or a filter")
        if ids is not None:
            wanted = checked_ids(ids)
            if wanted and await self._changeable():
                await self.engine.delete(wanted)
            return
        if isinstance(filter, Mapping) and not filter:
            raise InvalidInput("an empty filter would delete everything; call clear() for that")
        native = native_filter(self.engine, filter)
        if await self._changeable():
            await self.engine.delete_matching(native)

    async def get(self, ids: Sequence[str]) -> list[Record]:
        wanted = checked_ids(ids)
        found = await self.engine.read(wanted) if wanted and await self.engine.schema() is not None else {}
        return [found[i] for i in wanted if i in found]

    async def vectors(self, ids: Sequence[str], mode: Mode) -> dict[str, FloatArray | SparseVector]:
        wanted = list(dict.fromkeys(checked_ids(ids)))
        schema = await self.engine.schema()
        if schema is None:
            return {}
        schema.check_mode(mode, self.collection)
        found = await self.engine.vectors(wanted, mode)
        return {i: found[i] for i in wanted if i in found}

    async def count(self, filter: object = None) -> int:
        native = native_filter(self.engine, filter)
        return await self.engine.count(native) if await self.engine.schema() is not None else 0

    async def page(
        self, *, filter: object = None, start: str | None = None, size: int = 256, with_vectors: bool = False
    ) -> Page:
        native, size = native_filter(self.engine, filter), whole(size, "size", 1)
        if start is not None and not isinstance(start, str):
            raise InvalidInput(f"start must be `next` of a page, not {start!r}")
        schema = await self.engine.schema()
        if schema is None:
            return Page([], None, None)
        return await self.engine.page(native, start, size, schema.modes if with_vectors else ())

    async def search(
        self,
        queries: M3Output,
        *,
        k: int = 10,
        modes: Sequence[Mode] | None = None,
        candidates: int | None = None,
        fusion: Fusion | None = None,
        rerank: bool = False,
        filter: object = None,
        ids: Sequence[str] | None = None,
        score_threshold: float | None = None,
        mmr: float | None = None,
    ) -> list[list[Hit]]:
        k = whole(k, "k", 1)
        most = min(max(_CANDIDATES_PER_HIT * k, _LEAST_CANDIDATES), MOST)
        limit = most if candidates is None else whole(candidates, "candidates", k)
        native = native_filter(self.engine, filter)
        if ids is not None:
            native = self.engine.within(native, checked_ids(ids))
        threshold, balance = number(score_threshold, "score_threshold"), number(mmr, "mmr", 0.0, 1.0)
        check_output(queries)
        schema = await self.engine.schema()
        chosen = legs(modes, schema)
        if schema is None or not len(queries):
            return [[] for _ in range(len(queries))]
        scored = tuple(mode for mode in MODES if mode in chosen or (rerank and mode == "multivector"))
        total = WeightedSum(*queries.score_weights) if fusion is None else fusion
        plan = Plan(k, chosen, scored, limit, total, native, threshold, balance)
        check_queries(plan, queries, schema, self.collection, self.engine.address)
        return await search(self.engine, queries, plan)

    async def clear(self) -> None:
        if await self._changeable():
            await self.engine.clear()

    async def drop(self) -> None:
        if await self._changeable():
            await self.engine.drop()


def legs(modes: Sequence[Mode] | None, schema: Schema | None) -> tuple[Mode, ...]:
    """The modes that propose candidates: those asked for, or dense and sparse, as far as the collection has them."""
    if modes is not None:
        return checked_modes(modes)
    held = schema.modes if schema else ()
    return tuple(mode for mode in held if mode != "multivector") or held
