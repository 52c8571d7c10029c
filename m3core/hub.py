"""From what a user calls a model to a directory: the bundled one, a local one, or one from a model hub."""

from dataclasses import dataclass
from pathlib import Path

from m3core.errors import DownloadFailed, ModelNotFound

MINI = "m3-mini"

_FILES = ["*.json", "*.pt", "*.txt", "*.model", "*/config.json"]
_SAFETENSORS = "*.safetensors"
_BIN = "pytorch_model*.bin"


@dataclass(frozen=True)
class Located:
    """A model's directory, its name in fingerprints, and its hub commit, if it came from one."""

    directory: Path
    name: str
    revision: str | None


def locate(model: str, *, revision: str | None, endpoint: str | None) -> Located:
    """Finds the model's directory, fetching it first if need be.

    Args:
        model: `"m3-mini"`, a directory, or a hub id such as `"BAAI/bge-m3"`.
        revision: a hub branch, tag or commit.
        endpoint: the hub's address; `None` takes `HF_ENDPOINT`, or else the public hub.

    Raises:
        ModelNotFound: there is no such directory, and no such repository.
        DownloadFailed: the hub did not answer or refused, and the files are not in the cache.
    """
    if model == MINI:
        return Located(Path(__file__).parent / "mini", MINI, None)
    path = Path(model).expanduser()
    if path.is_dir():
        return Located(path, path.resolve().name, None)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or "\\" in model:
        raise ModelNotFound(f"there is no directory {path}; give an existing one, a hub id or {MINI!r}")
    directory = _fetch(model, revision, endpoint)
    return Located(directory, model, directory.name)


def _fetch(model: str, revision: str | None, endpoint: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        try:
            files = HfApi(endpoint=endpoint).list_repo_files(model, revision=revision)
        except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except Exception:  # out of reach in one of many ways: the cache may still have it
            return Path(snapshot_download(model, revision=revision, endpoint=endpoint, local_files_only=True))
        weights = _SAFETENSORS if "model.safetensors" in files or "model.safetensors.index.json" in files else _BIN
        patterns = [*_FILES, "heads.safetensors", weights]
        return Path(snapshot_download(model, revision=revision, endpoint=endpoint, allow_patterns=patterns))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFound(
            f"neither a directory nor a hub repository: {model!r}"
            + (f" at revision {revision!r}" if revision else "")
            + f" ({str(error).strip().splitlines()[0]}). Check the name, and your access if the repository is private"
        ) from error
    except LocalEntryNotFoundError as error:
        cause = error.__context__ or error
        raise DownloadFailed(
            f"{model} is not in the cache, and {endpoint or 'the model hub'} could not be reached "
            f"({type(cause).__name__}). Give the address of a mirror as endpoint= or in HF_ENDPOINT, "
            f"a local directory, or {MINI!r} to try things out without a network"
        ) from error
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DownloadFailed(f"{model} could not be fetched from {endpoint or 'the model hub'}: {reason}") from error
