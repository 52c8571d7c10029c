"""Documents to records and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from m3core import InvalidInput, Record
from m3core.checks import check_texts
from m3stores import Hit
from m3stores.adapting import content_ids, own_metadata, visible_metadata


def documents_of(
    texts: Iterable[str], metadatas: Iterable[Mapping[str, Any]] | None, ids: Iterable[str | None] | None
) -> list[Document]:
    """Texts with what is known of them as documents.

    Raises:
        InvalidInput: not a list of texts, or metadata or ids of another number.
    """
    listed = check_texts(texts)
    about = [{} for _ in listed] if metadatas is None else list(metadatas)
    named = [None] * len(listed) if ids is None else list(ids)
    if not len(listed) == len(about) == len(named):
        raise InvalidInput(f"{len(listed)} texts come with {len(about)} metadatas and {len(named)} ids")
    for number, metadata in enumerate(about):
        if not isinstance(metadata, Mapping):
            raise InvalidInput(f"metadata {number} is a {type(metadata).__name__}, not a dict")
    return [Document(t, metadata=dict(m), id=i) for t, m, i in zip(listed, about, named, strict=True)]


def records_of(documents: Iterable[Document], ids: Sequence[str | None] | None = None) -> list[Record]:
    """Documents as records. One without an id gets one made of its text and metadata, so that it is stored once.

    Args:
        documents: any number of them.
        ids: in place of their own; `None` among them means their own.

    Raises:
        InvalidInput: ids of another number, or metadata that cannot be stored.
    """
    listed = list(documents)
    given = [None] * len(listed) if ids is None else list(ids)
    if len(given) != len(listed):
        raise InvalidInput(f"{len(listed)} documents come with {len(given)} ids")
    metadatas = [own_metadata(document.metadata) for document in listed]
    named = [mine or document.id for document, mine in zip(listed, given, strict=True)]
    nameless = [number for number, name in enumerate(named) if name is None]
    made = content_ids((listed[n].page_content for n in nameless), (metadatas[n] for n in nameless))
    for number, content in zip(nameless, made, strict=True):
        named[number] = content
    return [
        Record(str(name), document.page_content, metadata)
        for document, name, metadata in zip(listed, named, metadatas, strict=True)
    ]


def document_of(found: Hit | Record) -> Document:
    """A record as the document that it was made of."""
    return Document(found.text, metadata=visible_metadata(found.metadata), id=found.id)
