"""The systems of the encoder benchmark: ours by their options, and the peers."""

from dataclasses import dataclass, field, replace
from typing import Any

from encoding.workloads import MODES


@dataclass(frozen=True)
class System:
    """Something to measure.

    Attributes:
        key: what it is called on the command line.
        name: in the tables.
        adapter: the module of `encoding.adapters` that it is behind.
        options: what the adapter gets beside the model and the number of threads.
        modes: the sets of modes that it is measured with, the widest last.
        packages: which an interpreter must have to run it, as they are imported.
        prepared: the steps of `encoding.preparing` that it needs, in this order.
        shapes: of the models that it can do.
    """

    key: str
    name: str
    adapter: str
    options: dict[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("dense",)
    packages: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ("bge-m3", "m3e-base", "m3-mini")

    @property
    def ours(self) -> bool:
        """Whether it is compared, rather than compared with."""
        return self.adapter == "ours"

    def sets(self, shape_modes: tuple[str, ...]) -> tuple[str, ...]:
        """The sets of modes that it has of a model that has these."""
        return tuple(modes for modes in self.modes if modes in shape_modes)


def ours(options: dict[str, Any]) -> System:
    """`M3Encoder` with these options, which also name it."""
    said = [str(value) for value in options.values()]
    return System("-".join(said), f"m3core {' '.join(said)}", "ours", options, tuple(MODES))


REFERENCE = ours({"dtype": "float32"})  # what vectors are compared with
OURS = (
    {"engine": "torch", "dtype": "bfloat16"},
    {"engine": "torch", "dtype": "float32"},
    {"engine": "openvino", "dtype": "int8"},
    {"engine": "openvino", "dtype": "bfloat16"},
    {"engine": "openvino", "dtype": "float32"},
)

_TORCH = ("sentence_transformers", "torch")
_OPENVINO = ("sentence_transformers", "optimum.intel", "openvino", "nncf")
_ONNX = ("onnxruntime", "tokenizers")
_LITE = {"modes": tuple(MODES), "packages": ("bge_m3_lite",), "shapes": ("bge-m3",)}
PEERS = (
    System(
        "flagembedding",
        "FlagEmbedding",
        "flagembedding",
        modes=("three",),
        packages=("FlagEmbedding",),
        shapes=("bge-m3", "m3-mini"),
    ),
    System("sentence-transformers", "sentence-transformers float32", "sentence_transformers", packages=_TORCH),
    System(
        "sentence-transformers-bfloat16",
        "sentence-transformers bfloat16",
        "sentence_transformers",
        {"dtype": "bfloat16"},
        packages=_TORCH,
    ),
    System("transformers", "transformers, padded", "transformers", packages=("transformers", "torch")),
    System(
        "onnxruntime",
        "ONNX Runtime, fused float32",
        "onnxruntime",
        {"graph": "fused"},
        packages=_ONNX,
        prepared=("onnx", "onnx_fused"),
    ),
    System(
        "onnxruntime-int8",
        "ONNX Runtime, dynamic int8",
        "onnxruntime",
        {"graph": "int8"},
        packages=_ONNX,
        prepared=("onnx", "onnx_fused", "onnx_int8"),
    ),
    System(
        "bge-m3-lite",
        "bge-m3-lite float32",
        "bge_m3_lite",
        {"precision": "fp32"},
        prepared=("onnx", "bge_m3_lite"),
        **_LITE,
    ),
    System(
        "bge-m3-lite-int8",
        "bge-m3-lite int8",
        "bge_m3_lite",
        {"precision": "int8"},
        prepared=("onnx", "bge_m3_lite", "bge_m3_lite_int8"),
        **_LITE,
    ),
    System(
        "sentence-transformers-openvino",
        "sentence-transformers, OpenVINO int8",
        "openvino",
        packages=_OPENVINO,
        prepared=("openvino",),
    ),
    System(
        "sentence-transformers-openvino-tuned",
        "sentence-transformers, OpenVINO int8, tuned",
        "openvino",
        {"batch": 4, "group": 1024},
        packages=_OPENVINO,
        prepared=("openvino",),
    ),
    System(
        "fastembed",
        "fastembed, float32",
        "fastembed",
        packages=("fastembed",),
        prepared=("onnx", "onnx_fused"),
        shapes=("m3e-base", "m3-mini"),
    ),
)


def peers(batch: int | None) -> list[System]:
    """The peers; those whose default batch size pads much take `batch` instead, if it is told."""
    taking = ("flagembedding", "sentence_transformers")
    return [
        replace(p, name=f"{p.name}, batch {batch}", options=p.options | {"batch": batch})
        if batch and p.adapter in taking
        else p
        for p in PEERS
    ]


STEPS = {
    "onnx": ("onnx", "torch", "transformers"),
    "onnx_fused": ("onnx", "onnxruntime"),
    "onnx_int8": ("onnx", "onnxruntime"),
    "bge_m3_lite": ("bge_m3_lite", "onnx", "onnxruntime"),
    "bge_m3_lite_int8": ("bge_m3_lite", "onnx", "onnxruntime"),
    "openvino": ("optimum.intel", "openvino", "nncf"),
}
"""The packages that each step of `encoding.preparing` needs."""
