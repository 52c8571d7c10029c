"""The last resort: ModelScope, through its own client and in its own cache. Its commits are not Hugging Face's."""

import logging
from pathlib import Path

from m3core.hub.listing import has_weights, needed

logger = logging.getLogger("m3core.hub")

NAME = "modelscope.cn"
_COMPLETE = ".m3-retrieval"
MISSING = "not asked: pip install 'm3-retrieval[modelscope]'"


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
        if local_files_only:
            directory = Path(api.download_repo(model, "model", local_files_only=True))
            return directory if (directory / _COMPLETE).is_file() else "not all of its files are there"
        names = needed([file.path for file in api.list_repo_files(model, "model")])
        if not has_weights(names):
            return "has no weights as safetensors or pytorch_model.bin"
        logger.warning("fetching %s from ModelScope", model)
        directory = Path(api.download_repo(model, "model", allow_patterns=names))
        (directory / _COMPLETE).touch()
    except Exception as error:  # of its own, of requests', of the system's
        return (str(error).strip() or repr(error)).splitlines()[0]
    return directory
