"""The last resort: ModelScope, through its own client and in its own cache. Its commits are not Hugging Face's."""

import json
import logging
from pathlib import Path

from m3core.hub.cached import hash_of
from m3core.hub.listing import has_weights, needed

logger = logging.getLogger("m3core.hub")

NAME = "modelscope.cn"
MISSING = "not asked: pip install 'm3-retrieval[modelscope]'"
_RECORD = ".m3-retrieval.json"


def fetch(model: str, *, local_files_only: bool = False) -> Path | str:
    """The directory of a model, fetched if need be; or why there is none.

    Args:
        model: the same `owner/name` as on Hugging Face.
        local_files_only: whether only what is there already counts.
    """
    try:
        from modelscope_hub import HubApi
    except ImportError:
        return MISSING
    try:
        api = HubApi()
        if not local_files_only:
            names = needed([file.path for file in api.list_repo_files(model, "model")])
            if not has_weights(names):
                return "has no weights as safetensors or pytorch_model.bin"
            logger.warning("fetching %s from ModelScope", model)
            directory = Path(api.download_repo(model, "model", allow_patterns=names))
            _record(directory, names)
            return directory
    except Exception as error:  # of its own, of requests', of the system's
        answer = (str(error).strip() or repr(error)).splitlines()[0]
    else:
        answer = "is not in its cache"
    try:
        directory = Path(api.download_repo(model, "model", local_files_only=True))
        return directory if _is_sound(directory) else answer
    except Exception:  # nothing there
        return answer


def _record(directory: Path, names: list[str]) -> None:
    """Notes the hashes of files whose download its client has verified, unless that was done before."""
    if not _is_sound(directory) or set(json.loads((directory / _RECORD).read_text("utf-8"))) != set(names):
        hashes = {name: hash_of(directory / name) for name in names}
        (directory / _RECORD).write_text(json.dumps(hashes), encoding="utf-8")


def _is_sound(directory: Path) -> bool:
    try:
        hashes = json.loads((directory / _RECORD).read_text("utf-8"))
        return all(hash_of(directory / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False
