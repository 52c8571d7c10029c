"""sentence-transformers' layout: `modules.json`, and a folder for each module that it names."""

from dataclasses import dataclass
from pathlib import Path

from m3core.errors import InvalidModel
from m3core.parts import Activation, Head, Pooling, Projection, known_pooling, read_json, read_object

TANH = "torch.nn.modules.activation.Tanh"  # sentence-transformers' default
IDENTITY = "torch.nn.modules.linear.Identity"
_ACTIVATIONS: dict[object, Activation] = {
    TANH: "tanh",
    "torch.nn.Tanh": "tanh",
    IDENTITY: "identity",
    "torch.nn.Identity": "identity",
}
_SERVED = {
    "use_residual": False,
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
}


@dataclass(frozen=True)
class Modules:
    """What `modules.json` says.

    Attributes:
        transformer: the folder with the transformer.
        pooling: how dense vectors are pooled.
        projection: the Dense module that they go through then, if there is one.
        normalize: whether they get unit length at the end.
    """

    transformer: Path
    pooling: Pooling
    projection: Projection | None
    normalize: bool

    @classmethod
    def read(cls, directory: Path) -> "Modules | None":
        """Reads the description of a model directory; `None` if it is of another layout.

        Raises:
            InvalidModel: a module is not supported, or not in its place: Transformer, Pooling, Dense, Normalize.
        """
        path = directory / "modules.json"
        if not path.is_file():
            return None
        transformer: Path | None = None
        pooling: Pooling | None = None
        projection: Projection | None = None
        normalize = False
        for kind, folder in _named(path):
            match kind:
                case "Transformer":
                    transformer = transformer or folder
                case "Pooling":
                    pooling = _pooling(folder / "config.json")
                case "Dense":
                    if pooling is None or normalize or projection is not None:
                        raise InvalidModel(f"{path} has a module Dense elsewhere than once, right behind Pooling")
                    projection = read_projection(folder)
                case "Normalize":
                    normalize = True
                case other:
                    raise InvalidModel(f"{path} has a module {other}, which is not supported")
        if transformer is None:
            raise InvalidModel(f"{path} names no Transformer module")
        if pooling is None:
            raise InvalidModel(f"{path} has no Pooling module")
        return cls(transformer, pooling, projection, normalize)


def _named(path: Path) -> list[tuple[str, Path]]:
    """The kind and the folder of each module."""
    modules = read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and isinstance(m.get("path"), str) and isinstance(m.get("type"), str) for m in modules
    ):
        raise InvalidModel(f"{path} is no list of modules, each with a path and a type")
    return [(module["type"].rsplit(".", 1)[-1], path.parent / module["path"]) for module in modules]


def _pooling(path: Path) -> Pooling:
    settings = read_object(path)
    flags = [k for k, on in settings.items() if k.startswith("pooling_mode_") and on is True]
    stated = settings.get("pooling_mode", flags[0] if len(flags) == 1 else flags)
    known = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    return known_pooling(known.get(str(stated), stated), path)


def read_projection(folder: Path) -> Projection:
    """The Dense module in a folder.

    Raises:
        InvalidModel: there is none, or one that is not supported.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidModel(f"{folder} is no Dense module: it has no config.json; fetch or save it again")
    settings = read_object(path)
    stated = settings.get("activation_function", TANH)
    activation = _ACTIVATIONS.get(stated) if isinstance(stated, str) else None
    if activation is None:
        raise InvalidModel(f"{path} asks for activation {stated!r}; supported are torch's Identity and Tanh")
    for name, served in _SERVED.items():
        if (value := settings.get(name)) not in (None, served):
            raise InvalidModel(f"{path} asks for {name} {value!r}, which is not supported")
    width, bias = settings.get("out_features"), settings.get("bias", True)
    if type(width) is not int or width < 1 or not isinstance(bias, bool):
        raise InvalidModel(f"{path}: out_features must be a width, bias true or false, not {width!r} and {bias!r}")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return Projection(Head(folder / name, "linear."), width, bias, activation)
    raise InvalidModel(f"{folder} has no weights, model.safetensors or pytorch_model.bin; fetch or save it again")
