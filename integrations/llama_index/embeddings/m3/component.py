"""`M3Component`: what all of LlamaIndex's components with an M3 model have in common."""

from typing import Any

from m3core import InvalidInput
from m3core.settings import EncoderSettings


class M3Component(EncoderSettings):
    """Has an encoder. Takes the model's name first; can be pickled and made of its `to_dict`."""

    def __init__(self, model_name: str | None = None, **fields: Any) -> None:
        """Notes how to load the model.

        Args:
            model_name: a hub id, a directory, or `"m3-mini"`; `None` takes `M3_MODEL`, or else BAAI/bge-m3.
            fields: the other fields, by name.

        Raises:
            InvalidInput: a field that there is not.
        """
        unknown = sorted(set(fields) - set(type(self).model_fields) - {"class_name", "model"})
        if unknown:
            raise InvalidInput(f"{type(self).__name__} has no field {', '.join(unknown)}")
        if model_name is not None and "model" in fields:
            raise InvalidInput("give the model once: as the first argument, as model_name= or as model=")
        fields.pop("class_name", None)
        super().__init__(**fields if model_name is None else {"model_name": model_name, **fields})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """LlamaIndex makes a copy of the fields alone; what the encoder is shared for must come along."""
        super().__setstate__(state)
        self._encoder = state["__pydantic_private__"]["_encoder"]
