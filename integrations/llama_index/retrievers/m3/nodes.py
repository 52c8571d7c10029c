"""Nodes to records and back."""

import json

from llama_index.core.schema import BaseNode, IndexNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from m3stores import Hit, Record
from m3stores.adapting import RESERVED, own_metadata, visible_metadata

_NODE = RESERVED + "node"


def record_of(node: BaseNode) -> Record:
    """A node as a record: its text and metadata as they are, and the rest of it under a reserved key."""
    shell = node.model_copy(update={"embedding": None, "metadata": {}})
    if isinstance(shell, IndexNode):
        shell.obj = None  # whatever it points to lives in a retriever's `object_map`
    shell.set_content("")
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    kept = json.dumps(doc_to_json(shell), ensure_ascii=False)  # a text: not every store holds nested metadata
    return Record(node.node_id, text, {**own_metadata(node.metadata), _NODE: kept})


def node_of(hit: Hit) -> NodeWithScore:
    """The node that a hit's record was made of; a `TextNode` if something else than LlamaIndex made it."""
    shell = hit.metadata.get(_NODE)
    node = TextNode(id_=hit.id) if shell is None else json_to_doc(json.loads(shell))
    node.set_content(hit.text)
    node.metadata = visible_metadata(hit.metadata)
    return NodeWithScore(node=node, score=hit.score)
