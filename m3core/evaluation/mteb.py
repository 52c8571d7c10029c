"""`M3ForMteb`: an encoder for the `mteb` package, so that MTEB and C-MTEB run on it as they are.

```python
import mteb
from m3core import M3Encoder
from m3core.evaluation.mteb import M3ForMteb

model = M3ForMteb(M3Encoder("./my-model"))
mteb.evaluate(model, mteb.get_benchmark("MTEB(cmn, v1)"))       # C-MTEB
```

Needs the extra `mteb`: `pip install 'm3-retrieval[mteb]'`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from m3core.encoder import M3Encoder
from m3core.errors import InvalidInput, MissingDependency
from m3core.hub import MINI
from m3core.output import FloatArray

try:
    from mteb.models import ModelMeta
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.similarity_functions import cos_sim, pairwise_cos_sim
except ImportError as error:
    raise MissingDependency("running MTEB needs mteb 2: pip install 'm3-retrieval[mteb]'") from error

_MINI = {
    "name": "m3-retrieval/m3-mini",
    "languages": ["zho-Hans", "eng-Latn"],
    "license": "mit",
    "adapted_from": "intfloat/multilingual-e5-small",
}


class M3ForMteb:
    """A model's dense vectors in the way that mteb's `EncoderProtocol` asks for them.

    Queries of a task go through `encode_queries`, with the encoder's instruction if there is one; all other texts, also
    those of tasks where both sides are alike, such as STS, go through `encode_documents`. mteb's own prompts are not
    used, as the M3 families want none. Vectors are compared by cosine, as in the tables of bge-m3 and m3e.

    Attributes:
        encoder: the model.
        mteb_model_meta: what is known of it: from mteb's own registry, if it came from the hub and is listed there,
            and from the encoder. What neither knows is left open.
    """

    def __init__(self, encoder: M3Encoder, *, name: str | None = None) -> None:
        """Takes an encoder.

        Args:
            encoder: the model.
            name: `"organization/model"`, under which mteb keeps results; `None` is the hub id, or else `"local/"` and
                the name of the directory.

        Raises:
            InvalidInput: a name without an organization.
        """
        if name is not None and "/" not in name:
            raise InvalidInput(f"mteb keeps results under an organization and a model, such as me/{name}, not {name!r}")
        self.encoder = encoder
        self.mteb_model_meta = _described(encoder, name)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: str | None = None,
        **kwargs: Any,
    ) -> FloatArray:
        """The dense vectors of all texts of a data loader.

        Args:
            inputs: batches, each with a list under `"text"`; the encoder forms its own.
            task_metadata: of the task, for its name in messages.
            hf_split: not used.
            hf_subset: not used.
            prompt_type: `"query"`, `"document"`, or `None`.
            kwargs: of these `show_progress_bar` is used.

        Returns:
            `(texts, d)` float32.

        Raises:
            InvalidInput: a batch holds no texts, or quantized vectors are asked for by `precision`.
        """
        if kwargs.get("precision", "float32") != "float32":
            raise InvalidInput(f"vectors are float32; leave out precision={kwargs['precision']!r}")
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise InvalidInput(f"{task_metadata.name} has no texts but {sorted(batch)}: the M3 families read texts")
            texts += batch["text"]
        encode = self.encoder.encode_queries if prompt_type == "query" else self.encoder.encode_documents
        shown = bool(kwargs.get("show_progress_bar", True))
        dense = encode(texts, modes=["dense"], show_progress=shown).dense
        assert dense is not None
        return dense

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each pair, `(n, m)`."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of aligned pairs, `(n,)`."""
        return pairwise_cos_sim(embeddings1, embeddings2)


def _described(encoder: M3Encoder, name: str | None) -> Any:
    """What mteb is told of a model. Settings that change its vectors are noted as an experiment's."""
    model = encoder.fingerprint.model
    settings = {key: encoder.arguments[key] for key in ("max_length", "normalize", "mcls", "instruction")}
    own: dict[str, Any] = {
        **(_MINI if encoder.arguments["model"] == MINI else {"name": model if "/" in model else f"local/{model}"}),
        "revision": encoder.fingerprint.revision,
        "max_tokens": encoder.max_length,
        "embed_dim": encoder.fingerprint.dense_dim,
        "framework": ["PyTorch"],
        "similarity_fn_name": "cosine",
        "use_instructions": encoder.fingerprint.instruction is not None,
        "experiment_kwargs": {
            "runtime": "m3-retrieval",
            "engine": encoder.engine,
            "dtype": encoder.dtype,
            **{key: value for key, value in settings.items() if value is not None},
        },
        **({} if name is None else {"name": name}),
    }
    known = MODEL_REGISTRY.get(model)
    described = ModelMeta.create_empty() if known is None else known
    fields = {key: getattr(described, key) for key in type(described).model_fields}
    return ModelMeta(**{**fields, **own, "loader": None, "loader_kwargs": {}})
