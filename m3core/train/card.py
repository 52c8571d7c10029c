"""The cards of trained models, `README.md` in their directories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m3core.checkpoint import Checkpoint
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
_NEXT = """\
```python
from m3core.train import FineTuner

FineTuner.from_pretrained("{directory}", dataset="train.jsonl").run()
```

It retrieves little before that. `retromae.safetensors` holds what only more pre-training needs.
"""


def write_card(
    directory: Path, prepared: Prepared, settings: Mapping[str, Any], before: Measures, after: Measures
) -> None:
    """Says what a fine-tuned model was made from, with what data and settings, and what was measured.

    Args:
        directory: of the model.
        prepared: what was trained, with what.
        settings: as of `FineTuner.run`.
        before: what the dev set said of the model before; empty without one.
        after: and of this one.
    """
    model, checkpoint = prepared.model, prepared.checkpoint
    flag = ""
    if len(model.modes) == 3 and model.dense_linear is None:
        flag = _FLAG.format(pooling=checkpoint.pooling, width=model.rows_width)
    sections = {
        "Data": [
            *_table(("data set", "records"), [(part.name, f"{len(part):,}") for part in prepared.data.parts]),
            "",
            f"Digest of all records: {prepared.data.digest}.",
        ],
        "Arguments": _arguments(settings),
    }
    if prepared.dev is not None:
        chosen = f"On {len(prepared.dev)} queries or pairs that were not trained with; they chose the best checkpoint."
        sections["Measures"] = [chosen, "", *_before_and_after(before, after)]
    _write(
        directory,
        checkpoint,
        "fine-tuned",
        ["sentence-transformers", *model.modes],
        f"Represents texts by {', '.join(model.modes)}; trained by m3-retrieval from",
        _USES.format(directory=directory.name, flag=flag),
        sections,
    )


def write_pretraining_card(
    directory: Path, checkpoint: Checkpoint, settings: Mapping[str, Any], before: Measures, after: Measures
) -> None:
    """Says what a pre-trained model was made from, with what texts and settings, and what was measured.

    Args:
        directory: of the model.
        checkpoint: what was trained.
        settings: as of `RetroMAE.run`, and the texts.
        before: losses on held-out texts before; empty without any.
        after: and of this one.
    """
    sections = {"Arguments": _arguments(settings)}
    if before:
        sections["Measures"] = ["On held-out texts.", "", *_before_and_after(before, after)]
    lead = "Pre-trained by m3-retrieval on plain texts (RetroMAE, arXiv 2205.12035), to be fine-tuned; from"
    _write(directory, checkpoint, "pre-trained", ["retromae"], lead, _NEXT.format(directory=directory.name), sections)


def _write(
    directory: Path,
    checkpoint: Checkpoint,
    became: str,
    tags: Sequence[str],
    lead: str,
    use: str,
    sections: Mapping[str, Sequence[str]],
) -> None:
    lines = [
        "---",
        "library_name: m3-retrieval",
        f"base_model: {checkpoint.name}",
        "pipeline_tag: sentence-similarity",
        f"tags: [{', '.join(['m3-retrieval', *tags])}]",
        "---",
        "",
        f"# {checkpoint.name}, {became}",
        "",
        f"{lead} {checkpoint.name} (revision {checkpoint.revision}).",
        "",
        use,
    ]
    for title in ("Data", "Measures", "Arguments"):
        if title in sections:
            lines += [f"## {title}", "", *sections[title], ""]
    (directory / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    return _table(("", ""), [(name, str(value)) for name, value in settings.items() if value not in (None, (), {})])


def _before_and_after(before: Measures, after: Measures) -> list[str]:
    return _table(("", "before", "after"), [(n, f"{before[n]:.3f}", f"{after[n]:.3f}") for n in after])
