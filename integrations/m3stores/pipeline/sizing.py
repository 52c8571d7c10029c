"""What the parts of a collection in Qdrant take, each with its formula and on what the formula rests.

"Measured" is: in the embedded engine (qdrant-edge 0.9, the server's storage), on one core, after `optimize()`, as the
difference between two collections of thousands of records, whose logs and first pages weigh the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from m3core import MODES, Mode
from m3stores.qdrant import QdrantSettings

Basis = Literal["exact", "measured", "vendor", "assumed"]
Unit = Literal["", "B", "FLOP", "tokens/s", "hours"]

FLOAT_BYTES = 4  # dense vectors are float32
MULTIVECTOR_BYTES = {"float16": 2.0, "turbo4": 0.5}  # a number; measured 2,048 and 516 B for a row of 1024
QUANTIZED_BYTES = {"int8": 1.0, "turbo4": 0.5}  # a number, of the copies; measured 1,028 and 520 B for a vector of 1024
INDEX_BYTES = 150  # of a dense vector in HNSW with Qdrant's m=16: measured 146
NONZERO_STORED_BYTES = 6.5  # measured at 100 nonzeros, as they were given, in blocks of 128 B
NONZERO_INDEX_BYTES = 7.1  # measured at 100 nonzeros: the index on disk
NONZERO_CACHED_BYTES = 8.1  # measured: that index, which searches read through the page cache, and 1.0 of memory
NONZERO_MEMORY_BYTES = 16.3  # measured growth of anonymous memory, as written; 6.4 in segments that were optimized
POINT_MEMORY_BYTES = 220  # measured growth of anonymous memory beside vectors: ids, versions, tables
POINT_DISK_BYTES = 350  # measured: id, hash, three short metadata fields, and the tables of points
TEXT_BYTES = 3.2  # a token: 4.0 of UTF-8 (3.7 to 4.3 in Chinese and English passages), of which LZ4 leaves 0.8
NONZEROS = (1.64, 0.81)  # a × tokens^b distinct ones, in Chinese and English passages: 39 of 50, 118 of 200, 257 of 512
DISK_ROOM = 1.5  # segments are there twice while they are optimized: what Qdrant's documentation adds to memory
MEMORY_SHARE = 0.8  # of a node's memory: more, says Qdrant's guide to memory, is a sign of a problem

STORE_SECONDS = 1.2e-4  # measured: 8,380 records a second with dense and sparse vectors of 1024 and 100 numbers
ROW_SECONDS = {"float16": 5.9e-5, "turbo4": 9.4e-5}  # measured: 170 and 106 records a second of 100 rows of 1024
INDEX_SECONDS = 1.84e-3  # measured: 184 s for 100,000 vectors of 1024 in clusters; random ones take twice as long

_TIMES = ((1, "hours"), (60, "minutes"))
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")

CARD = "an A100"
CARD_FLOPS = 312e12  # a second: NVIDIA's figure for dense products in bfloat16
UTILISATION = 0.4  # of these. An assumption: nothing of this project has been measured on a card yet


@dataclass(frozen=True)
class Shape:
    """Of a model: what decides about its cost and the width of its vectors.

    Attributes:
        layers: of the body.
        width: of its hidden states.
        max_length: the longest text in tokens.
        multivector_dim: `None` for a model that is dense only.
    """

    layers: int
    width: int
    max_length: int
    multivector_dim: int | None = None

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What the model represents a text as."""
        return MODES if self.multivector_dim else ("dense",)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "BAAI/bge-m3": Shape(24, 1024, 8192, 1024),
        "m3-mini": Shape(12, 384, 512, 128),
        "moka-ai/m3e-base": Shape(12, 768, 512),
        "moka-ai/m3e-small": Shape(4, 512, 512),  # its layers by its 24M parameters, of which 11M are embeddings
    }
)


@dataclass(frozen=True)
class Quantity:
    """A figure of a plan.

    Attributes:
        name: what it is of.
        value: in `unit`.
        unit: `"B"` are bytes; empty for counts.
        formula: with the numbers put in: `"100M × 1,024 × 4 B"`. "the sum" is of the lines before it.
        basis: on what it rests: arithmetic alone, constants that were measured, a vendor's, or assumptions.
    """

    name: str
    value: float
    unit: Unit
    formula: str
    basis: Basis

    def __str__(self) -> str:
        """The value to three digits, with decimal prefixes: GB = 10⁹ bytes."""
        if not self.unit:
            return number(self.value)
        if self.unit == "hours":
            if self.value >= 100:
                return f"{self.value:,.0f} hours"
            share, name = next(((1 / n, name) for n, name in _TIMES if self.value * n >= 1), (1 / 3600, "s"))
            return f"{self.value / share:.3g} {name}"
        power = min(max(int(math.log10(self.value / 0.9995)) // 3, 0), len(_PREFIXES) - 1)
        size, prefix = f"{self.value / 1000**power:.3g}", _PREFIXES[power]
        return f"{size} {prefix}{self.unit}" if self.unit in ("B", "FLOP") else f"{size}{prefix} {self.unit}"


@dataclass(frozen=True)
class Workload:
    """What there is to keep.

    Attributes:
        passages: how many.
        tokens: of a passage on average, special ones included.
        modes: that are kept.
        dense_dim: width of dense vectors.
        multivector_dim: width of a row of multi-vectors.
        nonzeros: of a sparse vector.
    """

    passages: int
    tokens: int
    modes: tuple[Mode, ...]
    dense_dim: int
    multivector_dim: int
    nonzeros: int


def nonzeros(tokens: int) -> Quantity:
    """Of the sparse vector of a passage: as many as it has distinct tokens, of which models ignore few."""
    factor, power = NONZEROS
    value = round(factor * tokens**power)
    formula = f"{factor} × {tokens}^{power}" if value <= tokens else str(tokens)
    return Quantity("nonzeros, sparse vector", min(value, tokens), "", formula, "measured")


def disk(load: Workload, settings: QdrantSettings) -> list[Quantity]:
    """Of one copy of the collection."""
    n, parts = (load.passages, ""), []
    if "dense" in load.modes:
        numbers = (load.dense_dim, "")
        parts.append(_product("dense vectors", "exact", n, numbers, (FLOAT_BYTES, "B")))
        if settings.quantization:
            each = (QUANTIZED_BYTES[settings.quantization], "B")
            parts.append(_product(f"dense copies, {settings.quantization}", "measured", n, numbers, each))
        parts.append(_product("dense index (HNSW)", "measured", n, (INDEX_BYTES, "B")))
    if "sparse" in load.modes:
        each = (NONZERO_STORED_BYTES, "B")
        parts.append(_product("sparse vectors", "measured", n, (load.nonzeros, ""), each))
        each = (NONZERO_INDEX_BYTES, "B")
        parts.append(_product("sparse index", "measured", n, (load.nonzeros, ""), each))
    if "multivector" in load.modes:
        rows = ((load.tokens, ""), (load.multivector_dim, ""))
        each = (MULTIVECTOR_BYTES[settings.multivector_type], "B")
        parts.append(_product(f"multi-vectors, {settings.multivector_type}", "exact", n, *rows, each))
    text = f"{number(load.passages)} × ({load.tokens} × {TEXT_BYTES} + {POINT_DISK_BYTES} B)"
    value = load.passages * (load.tokens * TEXT_BYTES + POINT_DISK_BYTES)
    return [*parts, Quantity("texts, ids, metadata", value, "B", text, "measured")]


def memory(load: Workload, settings: QdrantSettings) -> list[Quantity]:
    """Of one copy of the collection, so that searches go to the disk for the last few candidates only.

    Those are scored by the dense vectors where copies of them found them, and by multi-vectors, which have no index.
    """
    n, parts = (load.passages, ""), []
    if "dense" in load.modes:
        numbers = (load.dense_dim, "")
        if not settings.on_disk:
            parts.append(_product("dense vectors", "exact", n, numbers, (FLOAT_BYTES, "B")))
        if settings.quantization:
            each = (QUANTIZED_BYTES[settings.quantization], "B")
            parts.append(_product(f"dense copies, {settings.quantization}", "measured", n, numbers, each))
        parts.append(_product("dense index (HNSW)", "measured", n, (INDEX_BYTES, "B")))
    if "sparse" in load.modes:
        name, each = "sparse index", (NONZERO_MEMORY_BYTES, "B")
        if settings.on_disk:
            name, each = "sparse index, page cache", (NONZERO_CACHED_BYTES, "B")
        parts.append(_product(name, "measured", n, (load.nonzeros, ""), each))
    return [*parts, _product("ids and tables", "measured", n, (POINT_MEMORY_BYTES, "B"))]


def writing(load: Workload, settings: QdrantSettings) -> list[Quantity]:
    """Time of processors' cores: each replica stores and indexes by itself."""
    each, formula = STORE_SECONDS, number(STORE_SECONDS)
    if "multivector" in load.modes:
        row = ROW_SECONDS[settings.multivector_type] * load.multivector_dim / 1024
        each += load.tokens * row
        formula = f"({formula} + {load.tokens} × {row:.6g})"
    parts = [("storing, core-hours", each, formula)]
    if "dense" in load.modes:
        each = INDEX_SECONDS * load.dense_dim / 1024
        parts.append(("dense index, core-hours", each, f"{each:.6g}"))
    replicas = settings.replicas or 1
    copies = f" × {replicas}" if replicas > 1 else ""
    return [
        Quantity(
            name,
            load.passages * seconds / 3600 * replicas,
            "hours",
            f"{number(load.passages)} × {formula} s ÷ 3600{copies}",
            "measured",
        )
        for name, seconds, formula in parts
    ]


def encoding(load: Workload, shape: Shape | None, tokens_per_second: float | None, gpus: int) -> list[Quantity]:
    """Time of cards; none of a model whose shape is not known, unless it was measured."""
    parts: list[Quantity] = []
    basis: Basis = "exact"
    if tokens_per_second is None:
        if shape is None:
            return []
        basis = "assumed"
        layers, width, length = shape.layers, shape.width, load.tokens
        # 12 width² parameters in a layer; attention multiplies each token with all of its text twice
        operations = 2 * 12 * layers * width**2 + 4 * layers * width * length
        formula = f"2 × 12 × {layers} × {width}² + 4 × {layers} × {width} × {length} FLOP"
        parts.append(Quantity("operations, one token", operations, "FLOP", formula, "exact"))
        tokens_per_second = round(UTILISATION * CARD_FLOPS / operations)
        formula = f"{UTILISATION} × {CARD_FLOPS / 1e12:g}T FLOP ÷ {operations / 1e6:.6g}M FLOP"
        parts.append(Quantity(f"throughput, {CARD}", tokens_per_second, "tokens/s", formula, "assumed"))
    total = load.passages * load.tokens
    formula = f"{number(total)} tokens ÷ {number(tokens_per_second)} ÷ 3600"
    hours = total / tokens_per_second / 3600
    parts.append(Quantity("encoding, GPU-hours", hours, "hours", formula, basis))
    formula = f"{hours:.6g} hours ÷ {gpus}"
    return [*parts, Quantity(f"on {gpus} card{'s' * (gpus > 1)}", hours / gpus, "hours", formula, basis)]


def number(value: float) -> str:
    """As formulas have it: without loss, millions as M."""
    if value >= 1e6 and value % 1e4 == 0:
        return f"{value / 1e6:,.2f}".rstrip("0").rstrip(".") + "M"
    return f"{int(value):,}" if value == int(value) else f"{value:,}"


def gigabytes(value: float) -> str:
    """As formulas have what other formulas give."""
    return f"{value / 1e9:,.4f}".rstrip("0").rstrip(".") + " GB" if value >= 1e9 else f"{number(round(value, 1))} B"


def _product(name: str, basis: Basis, *factors: tuple[float, str]) -> Quantity:
    """Of bytes."""
    formula = " × ".join(f"{number(factor)} {unit}".strip() for factor, unit in factors)
    return Quantity(name, math.prod(factor for factor, _ in factors), "B", formula, basis)
