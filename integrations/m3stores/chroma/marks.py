"""Who has written to a collection on a server: a small collection beside it, with a record for each writer.

Each writer changes only its own, so that no two can undo each other's.
"""

import uuid

from m3stores.chroma.collection import ChromaCollection, Removed

_MOST = 200


class Marks:
    """What a store leaves for the stores of other processes, and what they left."""

    def __init__(self, collection: ChromaCollection) -> None:
        """`collection` is the small one."""
        self._collection = collection
        self._own = uuid.uuid4().hex

    def leave(self) -> None:
        """Lets others know that this store has written."""
        self._collection.create(None)
        self._collection.call("upsert", ids=[self._own], embeddings=[[1.0]], metadatas=[{"write": uuid.uuid4().hex}])

    def others(self) -> dict[str, str]:
        """The last write of each other writer. Very many are cleared away, which all notice too."""
        try:
            held = self._collection.call("get", include=["metadatas"])
        except Removed:
            return {}
        marks = {i: str(metadata["write"]) for i, metadata in zip(held["ids"], held["metadatas"], strict=True)}
        marks.pop(self._own, None)
        if len(marks) > _MOST:
            self._collection.call("delete", ids=list(marks))
        return marks

    def drop(self) -> None:
        """Removes them."""
        self._collection.drop()
