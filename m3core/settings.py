"""`EncoderSettings`: the arguments of an encoder as a pydantic model, for frameworks whose components are such models.

Not for m3core itself, which does without pydantic; every framework brings it.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, StrictInt

from m3core.encoder import M3Encoder
from m3core.hub import DEFAULT
from m3core.lazy import LazyEncoder
from m3core.output import Mode

_Location = Annotated[str | None, BeforeValidator(lambda value: value if value is None else str(value))]


class EncoderSettings(BaseModel):
    """Which model to use and how. Components with the same settings share one encoder and its forward passes."""

    model_config = ConfigDict(protected_namespaces=(), populate_by_name=True)

    model_name: str = Field(
        default_factory=lambda: os.environ.get("M3_MODEL", DEFAULT),
        alias="model",
        description="A hub id, a directory, or 'm3-mini'. Also read from M3_MODEL.",
    )
    device: str | list[str] | None = Field(
        default_factory=lambda: os.environ.get("M3_DEVICE"),
        description="Such as 'cpu', 'cuda:1', 'mps', or a list of several; None takes the best there is. "
        "Also read from M3_DEVICE.",
    )
    dtype: str = Field(default="auto", description="'auto', 'float32', 'bfloat16' or, with OpenVINO, 'int8'.")
    engine: str = Field(default="auto", description="What runs the model: 'auto', 'torch' or 'openvino'.")
    attention: str = Field(default="auto", description="The kernel: 'auto', 'varlen', 'flash', 'padded' or 'sdpa'.")
    max_length: int | None = Field(
        default=None, description="Cut texts at this many tokens; None is the model's limit."
    )
    normalize: bool | None = Field(default=None, description="Unit length or not; None does as the model says.")
    mcls: StrictInt | None = Field(  # strict, as True would be 1
        default=None,
        description="A CLS token before every so many tokens, such as 256, and their mean for dense; for long texts.",
    )
    query_instruction: str | None = Field(default=None, description="Put before each query; the M3 families want none.")
    endpoint: str | None = Field(
        default=None,
        description="The address of a model hub or mirror to ask before M3_ENDPOINTS, HF_ENDPOINT and the public ones.",
    )
    revision: str | None = Field(default=None, description="A hub branch, tag or commit.")
    token: SecretStr | None = Field(
        default=None, exclude=True, repr=False, description="For private repositories; None takes HF_TOKEN."
    )
    cache_folder: _Location = Field(default=None, description="Where downloaded models are kept.")
    local_files_only: bool = Field(default=False, description="Asks no hub; also by HF_HUB_OFFLINE=1.")
    batch_tokens: int | None = Field(default=None, description="The most tokens to put through the model at once.")
    cache: _Location = Field(
        default=None, description="The file of a VectorCache, so that no text is encoded twice; None is no cache."
    )

    _wanted: ClassVar[tuple[Mode, ...]] = ("dense",)
    _encoder: LazyEncoder = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Notes how to load the model."""
        super().model_post_init(context)
        self._encoder = self._made()

    def __setattr__(self, name: str, value: Any) -> None:
        """A setting that changes means another encoder."""
        super().__setattr__(name, value)
        if name in EncoderSettings.model_fields:
            self._encoder = self._made()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which shares the encoder unless a setting of it changes."""
        copied = super().model_copy(update=update, deep=deep)
        if update is not None and not EncoderSettings.model_fields.keys().isdisjoint(update):
            copied._encoder = copied._made()
        return copied

    def _made(self) -> LazyEncoder:
        return LazyEncoder(
            self._wanted,
            model=self.model_name,
            device=self.device,
            dtype=self.dtype,
            engine=self.engine,
            attention=self.attention,
            max_length=self.max_length,
            normalize=self.normalize,
            mcls=self.mcls,
            instruction=self.query_instruction,
            endpoint=self.endpoint,
            revision=self.revision,
            token=None if self.token is None else self.token.get_secret_value(),
            cache_folder=self.cache_folder,
            local_files_only=self.local_files_only,
            batch_tokens=self.batch_tokens,
            cache=self.cache,
        )

    @classmethod
    def from_encoder(cls, encoder: M3Encoder, **fields: Any) -> Self:
        """One that uses an encoder that is there already.

        Where another component follows it, as a vector store of LlamaIndex does, the encoder gets a temporary `cache`.

        Args:
            encoder: any.
            fields: the other fields.
        """
        given = dict(encoder.arguments)
        given["model_name"], given["query_instruction"] = given.pop("model"), given.pop("instruction")
        given["cache"] = given["cache"] if isinstance(given["cache"], str) else None
        made = cls(**given, **fields)
        made._encoder = LazyEncoder.of(encoder, cls._wanted)
        return made

    @property
    def encoder(self) -> M3Encoder:
        """The encoder with all its modes, loaded if need be."""
        return self._encoder.get()
