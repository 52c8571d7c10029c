"""The fused graph with weights in int8, by channel, and activations that are quantized as they come."""

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic


def prepare(directory: Path) -> None:
    """Writes `onnxruntime/int8.onnx`."""
    folder = directory / "onnxruntime"
    quantize_dynamic(
        folder / "fused.onnx",
        folder / "int8.onnx",
        weight_type=QuantType.QInt8,
        per_channel=True,
        use_external_data_format=True,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
