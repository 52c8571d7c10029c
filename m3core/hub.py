"""From what a user calls a model to a directory: the bundled one, a local one, or one from a model hub."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from m3core.errors import DownloadFailed, ModelNotFound

MINI = "m3-mini"
DEFAULT = "BAAI/bge-m3"

_FILES = ["*.json", "*.pt", "*.txt", "*.model"]  # a leading * reaches into folders as well
_SAFETENSORS = "*.safetensors"
_BIN = "*pytorch_model*.bin"
_TIMEOUT = 10.0  # seconds for the first answer of a hub


@dataclass(frozen=True)
class Located:
    """A model's directory, its name in fingerprints, and its hub commit, if it came from one."""

    directory: Path
    name: str
    revision: str | None


def locate(
    model: str,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    cache_folder: str | Path | None = None,
    fetch: bool = True,
) -> Located:
    """Finds the model's directory, fetching it first if need be.

    Args:
        model: `"m3-mini"`, a directory, or a hub id such as `"BAAI/bge-m3"`.
        revision: a hub branch, tag or commit.
        endpoint: the hub's address; `None` takes `HF_ENDPOINT`, or else the public hub.
        token: for private repositories; `None` takes the hub library's own.
        cache_folder: where the files are kept; `None` takes the hub library's own place.
        fetch: whether to ask the hub; otherwise only its cache on this machine counts.

    Raises:
        ModelNotFound: there is no such directory, and no such repository.
        DownloadFailed: the hub did not answer or refused, and the files are not in the cache.
    """
    if model == MINI:
        return Located(Path(__file__).parent / "mini", MINI, None)
    path = Path(os.path.expanduser(model))  # unlike Path.expanduser, leaves an unknown ~user alone
    if path.is_dir():
        return Located(path, path.resolve().name, None)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or "\\" in model:
        raise ModelNotFound(f"there is no directory {path}; give an existing one, a hub id or {MINI!r}")
    directory = _fetch(model, revision, endpoint, token, cache_folder, fetch)
    return Located(directory, model, directory.name)


def _fetch(
    model: str,
    revision: str | None,
    endpoint: str | None,
    token: str | None,
    cache_folder: str | Path | None,
    online: bool,
) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable: Exception | None = None
    snapshot = partial(snapshot_download, model, revision=revision, cache_dir=cache_folder)
    try:
        if online:
            try:
                info = HfApi(endpoint=endpoint, token=token).model_info(model, revision=revision, timeout=_TIMEOUT)
            except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError):
                raise
            except Exception as error:  # in one of many ways; the cache may still have it
                unreachable = error
            else:
                names = {PurePosixPath(file.rfilename).name for file in info.siblings or ()}
                safetensors = {"model.safetensors", "model.safetensors.index.json"} & names
                patterns = [*_FILES, _SAFETENSORS if safetensors else _BIN]
                return Path(snapshot(endpoint=endpoint, token=token, allow_patterns=patterns))
        cached = [*_FILES, _SAFETENSORS]
        return Path(snapshot(allow_patterns=cached, local_files_only=True))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ModelNotFound(
            f"{model!r} is neither a directory nor a hub repository{at} ({_first_line(error)}). "
            "Check the name, and your access if the repository is private"
        ) from error
    except LocalEntryNotFoundError as error:
        if not online:
            raise DownloadFailed(f"{model} is not in the cache; encode something with it once to fetch it") from error
        raise DownloadFailed(
            f"{model} is not in the cache, and the hub could not be reached ({_first_line(unreachable or error)}). "
            f"Give the address of a mirror as endpoint= or in HF_ENDPOINT, or a local directory; {MINI!r} needs no "
            "network"
        ) from (unreachable or error)
    except Exception as error:
        raise DownloadFailed(f"{model} could not be fetched: {_first_line(error)}") from error


def _first_line(error: Exception | None) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
