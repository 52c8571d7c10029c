"""bge-m3-lite's own int8 graph of the model: SmoothQuant, calibrated on its own texts."""

from pathlib import Path

from bge_m3_lite.quantize import quantize

from encoding.preparing.bge_m3_lite import UNCHUNKED


def prepare(directory: Path) -> None:
    """Writes `onnx/model_int8.onnx`.

    Of the graph without chunks, since `quantize` fuses the model anew when it gets the one with them, which together
    takes more memory than many machines have.
    """
    folder = directory / "onnx"
    quantize(folder / f"{UNCHUNKED}.onnx", folder / "model_int8.onnx")
