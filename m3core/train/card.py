"""The model card of a trained model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3core.train.measuring import Measures
from m3core.train.preparing import Prepared

_USES = """\
```python
from m3core import M3Encoder

encoder = M3Encoder("{directory}")
encoder.encode_documents(["…"])
```

sentence-transformers loads its dense vectors from the same directory{flag}.
"""
_FLAG = ', and FlagEmbedding all three with `BGEM3FlagModel(…, pooling_method="{pooling}", colbert_dim={width})`'


def write_card(
    directory: Path, prepared: Prepared, settings: Mapping[str, Any], before: Measures, after: Measures
) -> None:
    """Writes `README.md`: what the model was made from, with what data and settings, and what was measured.

    Args:
        directory: of the model.
        prepared: what was trained, with what.
        settings: as of `FineTuner.run`.
        before: what the dev set said of the model before.
        after: and of this one.
    """
    model, checkpoint = prepared.model, prepared.checkpoint
    flag = ""
    if len(model.modes) == 3 and model.dense_linear is None:
        flag = _FLAG.format(pooling=checkpoint.pooling, width=model.rows_width)
    lines = [
        "---",
        "library_name: m3-retrieval",
        f"base_model: {checkpoint.name}",
        "pipeline_tag: sentence-similarity",
        "tags: [m3-retrieval, sentence-transformers, " + ", ".join(model.modes) + "]",
        "---",
        "",
        f"# {checkpoint.name}, fine-tuned",
        "",
        f"Represents texts by {', '.join(model.modes)}; trained by m3-retrieval from {checkpoint.name} "
        f"(revision {checkpoint.revision}).",
        "",
        _USES.format(directory=directory.name, flag=flag),
        "## Data",
        "",
        "| data set | records |",
        "|---|---|",
        *(f"| {part.name} | {len(part):,} |" for part in prepared.data.parts),
        "",
        f"Digest of all records: {prepared.data.digest}.",
        "",
        *_measures(prepared, before, after),
        "## Arguments",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in settings.items() if value not in (None, (), {})),
        "",
    ]
    (directory / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _measures(prepared: Prepared, before: Measures, after: Measures) -> list[str]:
    if prepared.dev is None:
        return []
    return [
        "## Measures",
        "",
        f"On {len(prepared.dev)} queries or pairs that were not trained with; they chose the best checkpoint.",
        "",
        "| | before | after |",
        "|---|---|---|",
        *(f"| {name} | {before[name]:.3f} | {after[name]:.3f} |" for name in after),
        "",
    ]
