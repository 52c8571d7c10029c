"""The model as an ONNX graph, as it is exported."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import AutoModel

_INPUTS, _OUTPUT = ["input_ids", "attention_mask"], "token_embeddings"
_OPSET = 11  # of bge-m3's own ONNX file


class _Body(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]
        return hidden


def prepare(directory: Path) -> None:
    """Writes `onnx/model.onnx`, with all weights in `onnx/model.onnx_data`."""
    path = directory / "onnx" / "model.onnx"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    model: Any = AutoModel.from_pretrained(directory, attn_implementation="eager", add_pooling_layer=False)
    ids = torch.arange(4, 26).reshape(2, 11)
    mask = torch.ones_like(ids)
    axes = {name: {0: "batch", 1: "sequence"} for name in (*_INPUTS, _OUTPUT)}
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        exported = Path(temporary) / "model.onnx"
        torch.onnx.export(
            _Body(model).eval(),
            (ids, mask),
            str(exported),
            input_names=_INPUTS,
            output_names=[_OUTPUT],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
        onnx.save_model(onnx.load(str(exported)), str(path), save_as_external_data=True, location=f"{path.name}_data")
