"""`CrossEncoder`: a reranker as a teacher, such as BAAI/bge-reranker-v2-m3."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from m3core.backbones.engines import choose_device
from m3core.errors import InvalidInput, InvalidModel, TruncationWarning
from m3core.hub import locate

_BATCH_TOKENS = 16_384  # padding included


class CrossEncoder:
    """Scores pairs by a model that reads query and passage together: transformers' sequence classifiers of one label.

    A score is the model's logit, as FlagEmbedding's `add_reranker_score.py` writes it for distillation. It has no fixed
    scale: an absolute margin is what suits it.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        max_length: int = 512,
        endpoint: str | None = None,
    ) -> None:
        """Loads the model.

        Args:
            model: a directory or a hub id.
            device: such as `"cuda:1"`; `None` takes the best there is. On CUDA it computes in bfloat16, if that can.
            max_length: of query and passage together, in tokens; passages are cut, with a warning that counts them.
            endpoint: as of `M3Encoder`.

        Raises:
            ModelNotFound: no such directory or repository.
            DownloadFailed: no hub delivered it.
            InvalidModel: it does not score pairs.
            InvalidInput: a device or a length that cannot be used.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if max_length < 16:
            raise InvalidInput(f"max_length of a teacher must be at least 16 tokens, not {max_length}")
        self._device = choose_device(device)
        directory = locate(str(model), endpoint=endpoint).directory
        half = self._device.type == "cuda" and torch.cuda.is_bf16_supported()
        try:
            loaded, info = AutoModelForSequenceClassification.from_pretrained(
                directory, dtype=torch.bfloat16 if half else torch.float32, output_loading_info=True
            )
            self._tokenizer = AutoTokenizer.from_pretrained(directory)
        except (OSError, ValueError, KeyError) as error:
            raise InvalidModel(f"{model} cannot be loaded as a cross-encoder: {str(error).splitlines()[0]}") from error
        if info["missing_keys"] or loaded.config.num_labels != 1:
            raise InvalidModel(
                f"{model} does not score pairs: a cross-encoder is a sequence classifier with one label, such as "
                "BAAI/bge-reranker-v2-m3"
            )
        self._model = loaded.to(self._device).eval()
        self._max_length = max_length

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The score of each pair of a query and a passage."""
        if not pairs:
            return []
        queries, passages = [query for query, _ in pairs], [passage for _, passage in pairs]
        encoded = self._tokenizer(queries, passages, truncation=True, max_length=self._max_length)
        cut = sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
        if cut:
            warnings.warn(
                f"{cut} of {len(pairs)} pairs were longer than {self._max_length} tokens and were cut for the teacher; "
                "raise its max_length if the model allows it",
                TruncationWarning,
                stacklevel=2,
            )
        scores = [0.0] * len(pairs)
        for rows in _batches([len(ids) for ids in encoded["input_ids"]]):
            padded = self._tokenizer.pad(
                {name: [values[row] for row in rows] for name, values in encoded.items()}, return_tensors="pt"
            )
            with torch.inference_mode():
                logits = self._model(**padded.to(self._device)).logits
            for row, value in zip(rows, logits.view(-1).float().tolist(), strict=True):
                scores[row] = value
        return scores


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by length, as many at a time as fit into the token budget when padded."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= _BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
