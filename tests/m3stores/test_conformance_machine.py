"""Long random sequences of operations on every kind of store; after each of them it holds what the reference holds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from store_checks import check_contents, check_search, exact
from store_reference import made

from m3core import M3Output, Record
from m3stores import DBSF, RRF, WeightedSum

IDS = [*"abcdefgh", "文 1", "a/b"]
CONFIGURATIONS = [{"modes": ["dense"]}, {"modes": ["sparse"]}, {}, {"rerank": True}]
SETTINGS = settings(
    max_examples=5,
    stateful_step_count=42,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # with Phase.shrink too, a failure takes minutes to be told, and is short
)

ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=5, unique=True)
many_ids = st.lists(st.sampled_from(IDS), min_size=4, unique=True)
metadatas = st.fixed_dictionaries(
    {"number": st.integers(0, 5)},
    optional={
        "side": st.sampled_from(["pro", "con", None]),
        "weight": st.sampled_from([0.0, 0.25, 1, 1.0, 3.5]),
        "tags": st.lists(st.sampled_from(["x", "y", "中"]), max_size=2),
        "flag": st.booleans(),
    },
)
filters = st.sampled_from(
    [
        {"side": "pro"},
        {"side": {"$ne": "pro"}},
        {"number": {"$gte": 2}},
        {"number": {"$in": [0, 1, 2]}, "flag": {"$ne": True}},
        {"weight": {"$gt": 0.2, "$lte": 1}},
        {"weight": 1},
        {"tags": {"$contains": "中"}},
        {"tags": {"$nin": ["x", "y"]}},
        {"flag": {"$exists": False}},
        {"$or": [{"flag": True}, {"$not": {"number": {"$lt": 4}}}]},
        {"$and": [{"side": {"$exists": True}}, {"tags": "x"}]},
    ]
)
fusions = st.sampled_from([None, WeightedSum(0.5, 2.0, 1.0), RRF(), RRF(3, (1, 2, 3)), DBSF()])


def more_than(n: int) -> Callable:
    return precondition(lambda machine: len(machine.reference.records) > n)


class Machine(RuleBasedStateMachine):
    """A store and the reference. Every upsert makes new vectors, so that no two records score the same."""

    home: ClassVar
    steps: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.store, self.reference = self.home.open(), self.home.reference()
        self.seed = self.turn = 0

    def teardown(self) -> None:
        self.store.drop()
        self.store.close()

    def vectors(self, n: int) -> M3Output:
        self.seed += 1
        return made(n, seed=self.seed, empty=True)

    def upsert(self, records: Sequence[Record], output: M3Output) -> None:
        assert self.store.upsert(records, output) == self.reference.upsert(records, output)

    def held(self, chosen: list[str]) -> list[str]:
        return [i for i in chosen if i in self.reference.records]

    @initialize(metadatas=st.lists(metadatas, min_size=len(IDS), max_size=len(IDS)))
    def begin(self, metadatas: list[dict]) -> None:
        self.upsert(
            [Record(i, i, metadata) for i, metadata in zip(IDS, metadatas, strict=True)], self.vectors(len(IDS))
        )

    @rule(chosen=many_ids, text=st.text(max_size=8), metadata=metadatas)
    def upsert_records(self, chosen: list[str], text: str, metadata: dict) -> None:
        self.upsert([Record(i, f"{text} {i}", metadata) for i in chosen], self.vectors(len(chosen)))

    @more_than(0)
    @rule(chosen=ids | many_ids, what=st.sampled_from(["nothing", "text", "metadata", "vectors"]), metadata=metadatas)
    def update_some_and_leave_the_rest(self, chosen: list[str], what: str, metadata: dict) -> None:
        chosen = self.held(chosen)
        if not chosen:
            return
        records = [self.reference.records[i] for i in chosen]
        output = M3Output.concat(self.reference.given[i] for i in chosen)
        match what:
            case "text":
                records[0] = replace(records[0], text=f"{records[0].text}!")
            case "metadata":
                records[0] = replace(records[0], metadata=metadata)
            case "vectors":
                output = M3Output.concat([self.vectors(1), *list(output)[1:]])
        self.upsert(records, output)

    @more_than(5)
    @rule(chosen=ids)
    def delete_by_ids(self, chosen: list[str]) -> None:
        self.store.delete(chosen[:3])
        self.reference.delete(chosen[:3])

    @more_than(7)
    @rule(where=filters)
    def delete_by_filter(self, where: dict) -> None:
        self.store.delete(filter=where)
        self.reference.delete(self.reference.matching(where))

    @more_than(9)
    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.reference.clear()

    @precondition(lambda self: self.home.kind.lasting)
    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.home.open()

    @more_than(0)
    @rule(
        configuration=st.sampled_from(CONFIGURATIONS),
        fusion=fusions,
        where=st.none() | filters,
        k=st.integers(1, 12),
        more=st.none() | st.integers(0, 3),
        threshold=st.sampled_from([None, None, 0.05, 0.3]),
        mmr=st.sampled_from([None, None, 0.0, 0.4]),
    )
    def search(self, configuration, fusion, where, k, more, threshold, mmr) -> None:
        self.seed += 1
        candidates = None if more is None else k + more
        options = {"k": k, "candidates": candidates, "fusion": fusion, "score_threshold": threshold, "mmr": mmr}
        queries = made(2, seed=self.seed, empty=True)
        check_search(self.store, self.reference, queries, **configuration, **options, filter=where)

    @more_than(0)
    @rule(chosen=ids)
    def get(self, chosen: list[str]) -> None:
        wanted = [self.reference.records[i] for i in self.held(chosen)]
        assert list(map(exact, self.store.get(chosen))) == list(map(exact, wanted))

    @more_than(0)
    @rule(where=filters, size=st.integers(1, 4))
    def count_and_scroll(self, where: dict, size: int) -> None:
        wanted = self.reference.matching(where)
        assert self.store.count(where) == len(wanted)
        pages = self.store.scroll(filter=where, size=size)
        assert sorted(record.id for page in pages for record in page.records) == wanted

    @invariant()
    def both_hold_and_find_the_same(self) -> None:
        self.turn += 1
        type(self).steps += 1
        check_contents(self.store, self.reference)
        if self.turn % 2:
            configuration = CONFIGURATIONS[self.turn // 2 % len(CONFIGURATIONS)]
            check_search(self.store, self.reference, made(1, seed=1000 + self.seed + self.turn), **configuration)


def test_long_random_sequences(home) -> None:
    machine = type("MachineOfOneKind", (Machine,), {"home": home, "steps": 0})
    run_state_machine_as_test(machine, settings=SETTINGS)
    assert machine.steps >= 200
