"""What the adapters of frameworks share: encoders by name, ids made of content, metadata of their own."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from m3core import Fingerprint, InvalidInput, M3Encoder, ModelNotFound, Record
from m3core.hub import DEFAULT, MINI
from m3core.lazy import shared_encoder
from m3stores.store import HybridStore

RESERVED = "_m3_"
"""How the keys begin under which an adapter keeps something of its own in a record's metadata."""

SCORES, TOKENS, EXPLANATION = RESERVED + "scores", RESERVED + "tokens", RESERVED + "explanation"
"""The keys under which a retriever says why it found something. They are not stored."""


@runtime_checkable
class HasEncoder(Protocol):
    """A component of a framework that has an encoder, such as embeddings."""

    @property
    def encoder(self) -> M3Encoder:
        """The encoder."""


EncoderLike = M3Encoder | HasEncoder | str | Path
"""An encoder, a component that has one, such as `M3Embeddings` or `M3Embedding`, or where the model is."""


def as_encoder(encoder: object, store: HybridStore) -> M3Encoder:
    """The encoder of what is `EncoderLike`; `None` means the one that made the collection, or else BAAI/bge-m3.

    Raises:
        InvalidInput: something else, such as the embeddings of another package.
        ModelNotFound: the collection's own was a local directory.
        M3Error: as `M3Encoder` does.
    """
    match encoder:
        case M3Encoder():
            return encoder
        case str() | Path():
            return shared_encoder(model=str(encoder))
        case None:
            fingerprint = store.schema.fingerprint if store.schema else None
            return shared_encoder(model=DEFAULT) if fingerprint is None else made_by(fingerprint)
        case HasEncoder() if isinstance(found := encoder.encoder, M3Encoder):
            return found
    raise InvalidInput(
        "a hybrid collection needs all modes of an M3 model: give an M3Encoder, this package's embeddings, or where "
        f"the model is, not {type(encoder).__name__}"
    )


@contextmanager
def closed_on_error(store: HybridStore) -> Iterator[HybridStore]:
    """Closes a store that has just been opened, if what it was opened for fails."""
    try:
        yield store
    except BaseException:
        store.close()
        raise


def made_by(fingerprint: Fingerprint, *, model: str | None = None, **arguments: Any) -> M3Encoder:
    """The encoder with this fingerprint.

    Args:
        fingerprint: of a collection.
        model: where to find the model, if its name does not say it.
        arguments: of `M3Encoder`, such as `device`.

    Raises:
        ModelNotFound: only its directory's name is known.
    """
    name = fingerprint.model
    if model is None and "/" not in name and name != MINI and not Path(name).is_dir():
        raise ModelNotFound(
            f"the collection was made with a model in a directory called {name!r}: say where that is, with encoder= or "
            "--model"
        )
    kept = ("revision", "max_length", "normalize", "mcls", "instruction")
    settings = {what: getattr(fingerprint, what) for what in kept}
    return shared_encoder(model=model or name, **(settings | arguments))


def content_ids(texts: Iterable[str], metadatas: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """An id for each text, made of it and its metadata, so that indexing the same again replaces it.

    A text that comes several times gets several ids.

    Raises:
        InvalidInput: metadata that JSON cannot hold.
    """
    seen: Counter[bytes] = Counter()
    for number, (text, metadata) in enumerate(zip(texts, metadatas, strict=True)):
        try:
            content = json.dumps([text, metadata], ensure_ascii=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"the metadata of text {number} is no JSON: {error}") from error
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:16]
        yield digest.hex() + (f"-{seen[digest]}" if seen[digest] else "")
        seen[digest] += 1


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A user's metadata, to be stored; without what a retriever told of why it found it.

    Raises:
        InvalidInput: a key that is `RESERVED`.
    """
    own = {key: value for key, value in metadata.items() if key not in (SCORES, TOKENS, EXPLANATION)}
    for key in own:
        if isinstance(key, str) and key.startswith(RESERVED):
            raise InvalidInput(f"metadata keys that begin with {RESERVED!r} are reserved; rename {key!r}")
    return own


def with_reserved(records: Iterable[Record], held: Iterable[Record]) -> list[Record]:
    """Records with what an adapter, perhaps another framework's, keeps in those that they are to replace.

    Args:
        records: to be stored.
        held: those of the same ids that are there.
    """
    kept = {
        record.id: {key: value for key, value in record.metadata.items() if key.startswith(RESERVED)} for record in held
    }
    return [replace(record, metadata={**kept.get(record.id, {}), **record.metadata}) for record in records]


def visible_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A record's metadata without what adapters keep there for themselves."""
    return {key: value for key, value in metadata.items() if not key.startswith(RESERVED)}
