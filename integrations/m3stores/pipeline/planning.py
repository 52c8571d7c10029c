"""`plan`: what a collection of so many passages takes, and how Qdrant had better keep it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from m3core import MODES, InvalidInput, Mode, UnsupportedMode
from m3stores.checks import MOST_FLOATS
from m3stores.pipeline import sizing
from m3stores.pipeline.sizing import SHAPES, Quantity, Shape, Workload, gigabytes, number
from m3stores.qdrant import QdrantSettings

_SHARDS_PER_NODE = 2  # Qdrant's advice, so that a node that is added later has shards to take over
_HEAVY = 10.0  # times as large as all the rest: multi-vectors that are worth a warning
_WORTH_IT = 1e11  # bytes; smaller ones fit on any disk
_UNINDEXED = 100_000  # passages that the embedded engine searches in 16 ms without an index


@dataclass(frozen=True)
class Plan:
    """What a collection takes. Bytes are decimal: GB = 10⁹.

    Attributes:
        given: what the figures start from.
        disk: of a copy, of all replicas, and with the room that optimizing needs.
        memory: of a copy, and of all replicas.
        nodes: of a cluster that has this memory.
        time: of cards to encode, and of processors' cores to store.
        settings: for a new collection; the figures are with these.
        hints: what goes with the settings.
        warnings: what is to be decided first.
    """

    given: tuple[Quantity, ...]
    disk: tuple[Quantity, ...]
    memory: tuple[Quantity, ...]
    nodes: tuple[Quantity, ...]
    time: tuple[Quantity, ...]
    settings: QdrantSettings
    hints: tuple[str, ...]
    warnings: tuple[str, ...]

    def code(self) -> str:
        """The settings as Python that makes them."""
        defaults = QdrantSettings()
        values = {field.name: getattr(self.settings, field.name) for field in fields(QdrantSettings)}
        changed = [f"{name}={value!r}" for name, value in values.items() if value != getattr(defaults, name)]
        return f"QdrantSettings({', '.join(changed)})".replace("'", '"')

    def report(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def plan(
    passages: int,
    *,
    tokens: int = 200,
    modes: Sequence[Mode] | None = None,
    model: str = "BAAI/bge-m3",
    dense_dim: int | None = None,
    multivector_dim: int | None = None,
    nonzeros: int | None = None,
    quantization: Literal["auto", "int8", "turbo4"] | None = "auto",
    multivector_type: Literal["float16", "turbo4"] = "float16",
    on_disk: bool | None = None,
    replicas: int = 1,
    node_memory: float = 64e9,
    gpus: int = 1,
    tokens_per_second: float | None = None,
) -> Plan:
    """Says what a hybrid collection in Qdrant takes, each figure with its formula. Reads, loads and asks nothing.

    ```python
    made = plan(100_000_000, tokens=200, modes=("dense", "sparse"), replicas=2)
    print(made.code())
    ```

    Args:
        passages: how many.
        tokens: of a passage on average, special ones included.
        modes: that are kept; `None` means all that the model has.
        model: one of `sizing.SHAPES`, or any other with its `dense_dim`.
        dense_dim: width of dense vectors; `None` is the model's.
        multivector_dim: width of multi-vectors; `None` is the model's.
        nonzeros: of a sparse vector on average; `None` estimates them from `tokens`.
        quantization: of dense vectors. `"auto"` is `"turbo4"` where a node's memory does not hold a copy, else none.
        multivector_type: as of `QdrantSettings`.
        on_disk: as of `QdrantSettings`; `None` is with quantization, where a node's memory does not hold a copy.
        replicas: copies of the collection.
        node_memory: of a node, in bytes.
        gpus: cards that encode.
        tokens_per_second: that one of them encodes, from a sample; `None` estimates it from the model's shape.

    Raises:
        InvalidInput: a number that is not positive, longer passages than the model reads, an unknown model without its
            dimensions, or settings that there are not.
        UnsupportedMode: the model has no such mode.
    """
    counts = {"passages": passages, "tokens": tokens, "replicas": replicas, "gpus": gpus, "nonzeros": nonzeros}
    for name, value in (counts | {"dense_dim": dense_dim, "multivector_dim": multivector_dim}).items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InvalidInput(f"{name} must be a whole number from 1 on, not {value!r}")
    for name, size in (("node_memory", node_memory), ("tokens_per_second", tokens_per_second)):
        if size is not None and not 0 < size < math.inf:
            raise InvalidInput(f"{name} must be a positive number, not {size!r}")
    shape = SHAPES.get(model)
    if shape is not None and tokens > shape.max_length:
        raise InvalidInput(f"{model} reads at most {shape.max_length} tokens, not {tokens}: plan for shorter passages")
    distinct = sizing.nonzeros(tokens)
    kept = _checked_modes(modes, model, shape)
    load = Workload(
        passages,
        tokens,
        kept,
        _width("dense", kept, dense_dim, model, None if shape is None else shape.width),
        _width("multivector", kept, multivector_dim, model, None if shape is None else shape.multivector_dim),
        nonzeros or int(distinct.value),
    )
    all_in_memory = sum(part.value for part in sizing.memory(load, QdrantSettings()))
    fits = all_in_memory <= sizing.MEMORY_SHARE * node_memory
    if quantization == "auto":
        quantization = None if fits else "turbo4"
    if "dense" not in kept:
        quantization = None
    if on_disk is None:
        on_disk = quantization is not None and not fits
    settings = QdrantSettings(quantization=quantization, multivector_type=multivector_type, on_disk=on_disk)

    disk = _of_replicas(sizing.disk(load, settings), replicas)
    formula = f"{sizing.DISK_ROOM} × {gigabytes(disk[-1].value)}"
    room = Quantity("with room for optimizing", sizing.DISK_ROOM * disk[-1].value, "B", formula, "assumed")
    memory = _of_replicas(sizing.memory(load, settings), replicas)
    nodes = _nodes(memory[-1].value, room.value, node_memory, replicas)
    if nodes[0].value > 1:
        settings = replace(settings, shards=_SHARDS_PER_NODE * int(nodes[0].value))
    if replicas > 1:
        settings = replace(settings, replicas=replicas)
    given = [Quantity("tokens", passages * tokens, "", f"{number(passages)} × {tokens}", "exact")]
    if "sparse" in kept and nonzeros is None:
        given.append(distinct)
    cards = sizing.encoding(load, shape, tokens_per_second, gpus)
    return Plan(
        tuple(given),
        (*disk, room),
        memory,
        nodes,
        (*cards, *sizing.writing(load, settings)),
        settings,
        tuple(_hints(load, settings, estimated=bool(cards) and tokens_per_second is None)),
        tuple(_warnings(load, settings, disk, fits=fits, timed=bool(cards))),
    )


def _checked_modes(modes: Sequence[Mode] | None, model: str, shape: Shape | None) -> tuple[Mode, ...]:
    there = MODES if shape is None else shape.modes
    wanted = there if modes is None else modes
    if not wanted:
        raise InvalidInput(f"a collection keeps at least one mode of {', '.join(there)}")
    for mode in wanted:
        if mode not in there:
            raise UnsupportedMode(f"{model} has the modes {', '.join(there)}, not {mode!r}")
    return tuple(mode for mode in MODES if mode in wanted)


def _width(mode: Mode, kept: Sequence[Mode], given: int | None, model: str, own: int | None) -> int:
    if mode not in kept:
        return 0
    width = given or own
    if width is None:
        name = f"{mode}_dim"
        raise InvalidInput(f"{model} is none of {', '.join(SHAPES)}: say with {name} how wide its {mode} vectors are")
    return width


def _of_replicas(parts: list[Quantity], replicas: int) -> tuple[Quantity, ...]:
    """With their sum, times the replicas."""
    name, formula = ("all of it", "the sum") if replicas == 1 else (f"{replicas} replicas", f"{replicas} × the sum")
    return (*parts, Quantity(name, replicas * sum(part.value for part in parts), "B", formula, "measured"))


def _nodes(memory: float, disk: float, node_memory: float, replicas: int) -> tuple[Quantity, ...]:
    share, each = sizing.MEMORY_SHARE, node_memory / 1e9
    count = max(replicas, math.ceil(memory / (share * node_memory)))
    formula = f"⌈{gigabytes(memory)} ÷ ({share} × {each:g} GB)⌉"
    if replicas > 1:
        formula = f"max({replicas}, {formula})"
    on_each = f"{gigabytes(disk)} ÷ {count}"
    return (
        Quantity(f"nodes of {each:g} GB", count, "", formula, "vendor"),
        Quantity("disk of each node", disk / count, "B", on_each, "assumed"),
    )


def _hints(load: Workload, settings: QdrantSettings, *, estimated: bool) -> Iterator[str]:
    yield "Fields that filters are about belong into indexed={...} before the first record is written."
    if settings.shards:
        yield (
            f"shards are {_SHARDS_PER_NODE} a node, so that nodes which come later have some to take over; they are "
            "settled when the collection is made."
        )
    if settings.quantization == "turbo4":
        yield 'quantization="turbo4" takes a server of 1.18 or later; "int8" any, and twice the memory for copies.'
    if "multivector" in load.modes:
        if settings.multivector_type == "turbo4":
            yield 'multivector_type="turbo4" takes a server of 1.19 or later.'
        yield "Write multi-vectors with prefer_grpc=True: a fifth of the bytes that JSON takes."
    if "sparse" in load.modes and settings.on_disk:
        most = Quantity("", load.passages * load.nonzeros * sizing.NONZERO_MEMORY_BYTES, "B", "", "measured")
        yield (
            f"What is written is first indexed in memory, with {sizing.NONZERO_MEMORY_BYTES} B a nonzero ({most} if "
            "nothing were optimized meanwhile): watch the servers' memory while loading."
        )
    if estimated:
        yield "GPU-hours are an estimate: encode a sample on your card, and give its tokens_per_second."
    if load.passages <= _UNINDEXED and settings == QdrantSettings(multivector_type=settings.multivector_type):
        yield "So few need no server: QdrantStore(path=...) keeps them in this process."


def _warnings(
    load: Workload, settings: QdrantSettings, disk: Sequence[Quantity], *, fits: bool, timed: bool
) -> Iterator[str]:
    *parts, whole = disk
    rows = next((part for part in parts if part.name.startswith("multi-vectors")), None)
    rest = sum(part.value for part in parts if part is not rows)
    if rows is not None and rows.value > max(_HEAVY * rest, _WORTH_IT):
        others = "" if settings.multivector_type == "turbo4" else 'multivector_type="turbo4" takes a quarter; '
        yield (
            f"Multi-vectors take {rows} of a copy's {replace(whole, value=rows.value + rest)}, a row for every token. "
            f"Leave them out, and encode candidates when they are reranked; or keep fewer: {others}shorter passages; "
            "the means of two or three neighbouring rows each."
        )
    most = MOST_FLOATS // load.multivector_dim if load.multivector_dim else load.tokens
    if load.tokens > most:
        yield (
            f"A multi-vector of {load.multivector_dim} numbers a row has at most {most:,} rows in Qdrant: passages of "
            f"{load.tokens:,} tokens cannot be stored. Split them, or leave multi-vectors out."
        )
    if "dense" in load.modes and settings.quantization is None and not fits:
        yield (
            "A node's memory does not hold a copy: quantization keeps an eighth (turbo4) or a quarter (int8) of the "
            "dense vectors in memory, and the rest on disk."
        )
    if settings.shards and not settings.replicas:
        yield "With one replica, a node that is down takes its shards out of every answer: replicas=2."
    if not timed:
        yield "Nothing is known of the model's cost: give tokens_per_second, of a sample, for GPU-hours."
