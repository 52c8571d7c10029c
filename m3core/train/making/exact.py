"""What mining needs of an encoder: an exact search over any number of passages, and scores of pairs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from m3core.encoder import M3Encoder
from m3core.errors import InvalidInput, UnsupportedMode
from m3core.fusion import Weights
from m3core.output import MODES, FloatArray, Mode

_QUERIES = 256  # scored at a time against a window of passages
_WINDOW = 1024  # passages


class ExactSearch:
    """Ranks all passages for every query, without an index: by one mode, or by the weighted sum of several.

    The passages go through the model once, window by window, and are not kept: memory holds the queries' vectors, a
    window's, and the best passages so far.
    """

    def __init__(
        self,
        encoder: M3Encoder,
        passages: Sequence[str],
        *,
        modes: Sequence[Mode] | None = None,
        show_progress: bool = False,
    ) -> None:
        """Encodes nothing yet.

        Args:
            encoder: the model.
            passages: what to search.
            modes: one or several; `None` means all that the model has. Several are summed with the model's weights.
            show_progress: whether to show progress bars.

        Raises:
            InvalidInput: no passages.
            UnsupportedMode: the model does not have one of the modes.
        """
        if not passages:
            raise InvalidInput("there are no passages to search")
        self._encoder = encoder
        self._passages = passages
        self._modes, self._weights = _weighted(encoder, modes)
        self._show_progress = show_progress

    def __call__(self, queries: Sequence[str], k: int) -> Iterator[list[tuple[str, float]]]:
        """The best passages of each query, in order: texts and scores, best first; equal ones in their own order."""
        k = min(k, len(self._passages))
        encoded = self._encoder.encode_queries(queries, modes=self._modes, show_progress=self._show_progress)
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        places = np.zeros((len(queries), k), dtype=np.int64)
        start = 0
        for window in self._encoder.iter_encode(
            self._passages,
            modes=self._modes,
            show_progress=self._show_progress,
            total=len(self._passages),
            window=_WINDOW,
        ):
            for first in range(0, len(queries), _QUERIES):
                rows = slice(first, first + _QUERIES)
                scores = encoded[rows].score(window, weights=self._weights)
                best[rows], places[rows] = _merged(best[rows], places[rows], scores, start)
            start += len(window)
        for scored, found in zip(best, places, strict=True):
            yield [(self._passages[place], float(score)) for place, score in zip(found, scored, strict=True)]


def _merged(
    best: FloatArray, places: npt.NDArray[np.int64], scores: FloatArray, start: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The best of what was best so far and of a window's scores, sorted."""
    both = np.concatenate([best, scores], axis=1)
    new = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
    order = np.argsort(-both, axis=1, kind="stable")[:, : best.shape[1]]
    return np.take_along_axis(both, order, 1), np.take_along_axis(np.concatenate([places, new], axis=1), order, 1)


class EncoderScore:
    """A teacher that is the encoder itself: the score of pairs by one mode, or by the weighted sum of several."""

    def __init__(self, encoder: M3Encoder, *, modes: Sequence[Mode] | None = None) -> None:
        """Takes what `ExactSearch` does."""
        self._encoder = encoder
        self._modes, self._weights = _weighted(encoder, modes)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The score of each pair of a query and a passage."""
        queries, query_places = _distinct([query for query, _ in pairs])
        passages, passage_places = _distinct([passage for _, passage in pairs])
        encoded = self._encoder.encode_queries(queries, modes=self._modes)
        documents = self._encoder.encode_documents(passages, modes=self._modes)
        scores = np.zeros(len(pairs), dtype=np.float32)
        for row in range(len(queries)):
            mine = np.flatnonzero(query_places == row)
            scores[mine] = encoded[row].score(documents[passage_places[mine]], weights=self._weights)[0]
        return [float(score) for score in scores]


def _weighted(encoder: M3Encoder, modes: Sequence[Mode] | None) -> tuple[tuple[Mode, ...], Weights]:
    """The modes, and their weights: a mode that is alone counts as it is."""
    wanted = tuple(mode for mode in MODES if mode in (encoder.modes if modes is None else modes))
    missing = [mode for mode in modes or () if mode not in encoder.modes]
    if missing or not wanted:
        raise UnsupportedMode(
            f"{encoder.fingerprint.model} has {', '.join(encoder.modes)}; it cannot search by {', '.join(missing)}"
        )
    given = dict(zip(MODES, encoder.score_weights, strict=True)) if len(wanted) > 1 else {wanted[0]: 1.0}
    dense, sparse, multivector = (given[mode] if mode in wanted else 0.0 for mode in MODES)
    return wanted, (dense, sparse, multivector)


def _distinct(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The texts without repetitions, and where each of the given ones is among them."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return list(places), np.array([places[text] for text in texts], dtype=np.int64)
