"""The lexical baseline: BM25 over jieba's words."""

from collections.abc import Sequence

import numpy as np

from m3core.errors import MissingDependency
from m3core.output import FloatArray


class BM25:
    """BM25 (k1 1.5, b 0.75, Lucene's variant) over jieba's search-mode words, which also splits English at spaces."""

    def __init__(self, documents: Sequence[str]) -> None:
        """Indexes `documents`.

        Raises:
            MissingDependency: bm25s or jieba is not installed.
        """
        try:
            import bm25s
            import jieba
        except ImportError as error:
            raise MissingDependency("BM25 needs bm25s and jieba: pip install 'm3-retrieval[eval]'") from error
        jieba.setLogLevel("WARNING")
        self._cut = jieba.cut_for_search
        self._index = bm25s.BM25(method="lucene")
        self._index.index([self._words(d) for d in documents], show_progress=False)
        self._known = set(self._index.vocab_dict)
        self._size = len(documents)

    def score(self, queries: Sequence[str]) -> FloatArray:
        """The score of each document for each query, `(len(queries), documents)` float32."""
        scores = np.zeros((len(queries), self._size), dtype=np.float32)
        for row, query in enumerate(queries):
            words = [w for w in self._words(query) if w in self._known]
            if words:
                scores[row] = self._index.get_scores(words)
        return scores

    def _words(self, text: str) -> list[str]:
        return [w for w in self._cut(text.lower()) if any(c.isalnum() for c in w)]
