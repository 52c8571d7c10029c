"""Nodes to records and back."""

import json

from llama_index.core.schema import BaseNode, IndexNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from m3stores import Hit, Record
from m3stores.adapting import RESERVED, own_metadata, visible_metadata

_NODE = RESERVED + "node"
REF_DOC = RESERVED + "ref_doc"
"""The metadata key of the id of the document that a node was made of. A node without one is taken for its own."""


def record_of(node: BaseNode) -> Record:
    """A node as a record: its text and metadata as they are, and the rest of it under a reserved key."""
    shell = node.model_copy(update={"embedding": None, "metadata": {}})
    if isinstance(shell, IndexNode):
        shell.obj = None  # whatever it points to lives in a retriever's `object_map`
    shell.set_content("")
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    kept = json.dumps(doc_to_json(shell), ensure_ascii=False)  # a text: not every store holds nested metadata
    source = node.ref_doc_id or node.node_id
    return Record(node.node_id, text, {**own_metadata(node.metadata), _NODE: kept, REF_DOC: source})


def node_of(found: Hit | Record) -> BaseNode:
    """The node that a record was made of; a `TextNode` if something else than LlamaIndex made it."""
    shell, metadata = found.metadata.get(_NODE), visible_metadata(found.metadata)
    if shell is None:
        return TextNode(id_=found.id, text=found.text, metadata=metadata)
    node = json_to_doc(json.loads(shell))
    node.set_content(found.text)
    node.metadata = metadata
    return node


def indexed_text_of(found: Hit | Record, node: BaseNode) -> str:
    """What was encoded of a record: with the metadata that LlamaIndex embeds, if that made it, or else its text."""
    return node.get_content(metadata_mode=MetadataMode.EMBED) if _NODE in found.metadata else found.text


def scored_node_of(hit: Hit) -> NodeWithScore:
    """The node of a hit, with the fused score."""
    return NodeWithScore(node=node_of(hit), score=hit.score)
