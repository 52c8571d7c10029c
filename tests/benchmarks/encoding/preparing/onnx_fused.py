"""The exported graph as ONNX Runtime's optimizer fuses it."""

import json
import shutil
from pathlib import Path

from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions


def prepare(directory: Path) -> None:
    """Writes `onnxruntime/fused.onnx`."""
    folder = directory / "onnxruntime"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    fused = optimizer.optimize_model(
        str(directory / "onnx" / "model.onnx"),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        optimization_options=FusionOptions("bert"),
        opt_level=0,
        use_gpu=False,
    )
    done = fused.get_fused_operator_statistics()["Attention"]
    if done != config["num_hidden_layers"]:
        raise RuntimeError(f"the optimizer fused the attention of {done} layers of {config['num_hidden_layers']}")
    fused.save_model_to_file(str(folder / "fused.onnx"), use_external_data_format=True)
