"""The model as an OpenVINO graph whose weights are compressed to int8."""

import shutil
from pathlib import Path

from optimum.intel import OVModelForFeatureExtraction, OVWeightQuantizationConfig

NAME = "openvino_model_int8"


def prepare(directory: Path) -> None:
    """Writes `openvino/openvino_model_int8.xml`, where sentence-transformers looks for it."""
    folder = directory / "openvino"
    shutil.rmtree(folder, ignore_errors=True)
    model = OVModelForFeatureExtraction.from_pretrained(
        directory, export=True, compile=False, quantization_config=OVWeightQuantizationConfig(bits=8, sym=True)
    )
    model.save_pretrained(folder)
    for path in folder.glob("openvino_model.*"):
        path.rename(path.with_stem(NAME))
