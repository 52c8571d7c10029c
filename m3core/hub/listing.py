"""What a hub says that a repository holds, and which of these files a model needs."""

import re
from dataclasses import dataclass

from m3core.errors import InvalidModel
from m3core.hub.answers import Failed, timeouts
from m3core.hub.endpoints import Endpoint

HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_FOLDER = r"(\d+_\w+/)?"  # sentence-transformers' own: 1_Pooling/
_SETTINGS = re.compile(_FOLDER + r"[^/\\:]+\.(json|txt|model)")
_HEADS = re.compile(r"(sparse_linear|colbert_linear)\.pt|heads\.safetensors")
_PART = r"(-\d+-of-\d+)?"
_SAFETENSORS = re.compile(_FOLDER + rf"model(\.q4)?{_PART}\.safetensors")
_TORCH = re.compile(_FOLDER + rf"pytorch_model{_PART}\.bin")


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository.

    Attributes:
        name: its path there.
        size: in bytes.
        digest: of its content: the sha256 of a large file, and git's own hash of a small one, as hexadecimal digits.
            It is the file's ETag and its name in the cache.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """What a repository holds.

    Attributes:
        commit: the revision's hash.
        files: those that the model needs.
    """

    commit: str
    files: tuple[RepoFile, ...]


def needed(names: list[str]) -> list[str]:
    """Which files a model needs: settings, tokenizer, heads, and each folder's weights as safetensors, or as `.bin`."""
    weights = [n for n in names if _SAFETENSORS.fullmatch(n)]
    folders = {n.rpartition("/")[0] for n in weights}
    weights += [n for n in names if _TORCH.fullmatch(n) and n.rpartition("/")[0] not in folders]
    return [n for n in names if _SETTINGS.fullmatch(n) or _HEADS.fullmatch(n)] + weights


def has_weights(names: list[str]) -> bool:
    """Whether there are any among these files."""
    return any(_SAFETENSORS.fullmatch(name) or _TORCH.fullmatch(name) for name in names)


def listing(model: str, revision: str | None, endpoint: Endpoint, token: str | bool | None) -> Listing:
    """What an endpoint says that a repository holds.

    Raises:
        InvalidModel: nothing that can be loaded.
        Exception: it does not answer, or with an error; in one of the hub library's ways.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint.address, token=token, library_name="m3-retrieval")
    info = api.model_info(model, revision=revision, files_metadata=True, timeout=timeouts())  # type: ignore[arg-type]
    siblings = {file.rfilename: file for file in info.siblings or ()}
    if not info.sha or not siblings:
        raise Failed("its answer is no list of files")
    names = needed(sorted(siblings))
    if not has_weights(names):
        raise InvalidModel(
            f"{model} has no weights as safetensors or pytorch_model.bin; it has {', '.join(sorted(siblings)[:8])}"
        )
    files = []
    for name in names:
        file = siblings[name]
        digest = file.lfs.sha256 if file.lfs else file.blob_id
        if digest is None or file.size is None:
            files.append(_asked(model, name, info.sha, endpoint, token))
        else:
            files.append(RepoFile(name, file.size, digest))
    for digest in (info.sha, *(file.digest for file in files)):  # which become names of files
        if not HASH.fullmatch(digest):
            raise Failed(f"its answer is no list of files: {digest!r} is no hash")
    return Listing(info.sha, tuple(sorted(files, key=lambda file: file.size)))


def _asked(model: str, name: str, commit: str, endpoint: Endpoint, token: str | bool | None) -> RepoFile:
    """A file of which the list says too little."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(model, name, revision=commit, endpoint=endpoint.address)
    said = get_hf_file_metadata(url, token=token, timeout=timeouts()[1], endpoint=endpoint.address)
    if not said.etag or said.size is None:
        raise Failed(f"says neither size nor hash of {name}")
    return RepoFile(name, said.size, said.etag)
