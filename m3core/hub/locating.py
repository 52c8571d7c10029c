"""From what a user calls a model to a directory: the bundled one, a local one, or one from a model hub."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from m3core.errors import DownloadFailed, InvalidInput, ModelNotFound
from m3core.hub import modelscope
from m3core.hub.cached import Repository
from m3core.hub.endpoints import endpoints
from m3core.hub.fetching import Fetch

logger = logging.getLogger("m3core.hub")

MINI = "m3-mini"
DEFAULT = "BAAI/bge-m3"


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
    local_files_only: bool = False,
) -> Located:
    """Finds the model's directory, fetching it first if need be.

    Only files that the model needs are fetched, and every file is compared with the hash that the hub announces for it,
    before anything can use it; so is, once, every file that another program put into the cache.

    Args:
        model: `"m3-mini"`, a directory, or a hub id such as `"BAAI/bge-m3"`.
        revision: a hub branch, tag or commit. A commit that is in the cache is not asked for.
        endpoint: the address of a hub or mirror to ask first; then come `M3_ENDPOINTS` (addresses with commas between
            them), `HF_ENDPOINT`, huggingface.co and hf-mirror.com; and ModelScope at last, if its client is installed
            and no revision is asked for. One that does not answer costs 3 seconds for each address of its name, once in
            10 minutes.
        token: for private repositories; `None` takes the hub library's own. Beside `endpoint` it goes there only;
            otherwise to endpoints that you name and to huggingface.co.
        cache_folder: where the files are kept; `None` takes the hub library's own place.
        local_files_only: whether only the cache on this machine counts, as with `HF_HUB_OFFLINE=1`.

    Raises:
        ModelNotFound: there is no such directory, and no such repository.
        InvalidModel: the repository holds no weights.
        DownloadFailed: the files are not all in the cache, and no endpoint delivered them; says what each answered.
        InvalidInput: an endpoint that is no address.
    """
    if model == MINI:
        return Located(Path(__file__).parents[1] / "mini", MINI, None)
    if not model.strip():
        raise ModelNotFound(f"a model is a hub id, a directory or {MINI!r}, and not empty")
    path = Path(os.path.expanduser(model))  # unlike Path.expanduser, leaves an unknown ~user alone
    if path.is_dir():
        return Located(path, path.resolve().name, None)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or "\\" in model:
        raise ModelNotFound(f"there is no directory {path}; give an existing one, a hub id or {MINI!r}")
    from huggingface_hub import is_offline_mode

    token = token.strip() if token else None
    if token and not token.isprintable():
        raise InvalidInput("the token holds a control character; it is one line, as the hub shows it")
    repository = Repository(model, cache_folder)
    if local_files_only or is_offline_mode():
        return _kept(repository, revision)
    return _fetched(repository, revision, Fetch(repository, endpoints(endpoint, token=token), token))


def _fetched(repository: Repository, revision: str | None, fetch: Fetch) -> Located:
    """A complete snapshot, after asking the hubs."""
    kept = _intact(repository, revision)
    if kept is not None and (repository.is_pinned(revision, kept) or fetch.is_hopeless):
        return _located(repository, kept)
    try:
        return _located(repository, _brought(repository, revision, kept, fetch))
    except (DownloadFailed, ModelNotFound) as error:
        if kept is not None:
            logger.warning("%s: going on with what the cache has of it, commit %s", repository.model, kept)
            return _located(repository, kept)
        if revision is None and isinstance(error, DownloadFailed) and error.answers:
            directory = modelscope.fetch(repository.model)
            if isinstance(directory, Path):
                return Located(directory, repository.model, None)
            fetch.answers[modelscope.NAME] = directory
            raise fetch.failure() from error
        raise


def _brought(repository: Repository, revision: str | None, kept: str | None, fetch: Fetch) -> str:
    """The commit that the hub says is the revision, whose snapshot is complete now."""
    wanted, first = fetch.look_up(revision, patiently=kept is None)
    try:
        if wanted.commit != kept or not repository.holds(wanted):
            logger.info("fetching %s at %s from %s", repository.model, wanted.commit, first)
            repository.publish(wanted, revision, fetch.bring(wanted, first))
            if not repository.holds(wanted):
                raise DownloadFailed(f"{repository.snapshot(wanted.commit)} was changed by another process; try again")
    except OSError as error:
        raise DownloadFailed(
            f"{repository.folder} cannot be written ({error.strerror}: {error.filename}); choose another place by "
            "cache_folder= or HF_HUB_CACHE"
        ) from error
    return wanted.commit


def _kept(repository: Repository, revision: str | None) -> Located:
    """A complete snapshot, without asking anybody."""
    kept = _intact(repository, revision)
    if kept is not None:
        return _located(repository, kept)
    if revision is None and isinstance(directory := modelscope.fetch(repository.model, local_files_only=True), Path):
        return Located(directory, repository.model, None)
    commit = repository.commit(revision)
    lacking = repository.missing(commit) if commit and repository.snapshot(commit).is_dir() else None
    at = f" --revision {revision}" if revision else ""
    raise DownloadFailed(
        f"{repository.model} is not complete in the cache, {repository.folder.parent}, and no hub may be asked in "
        f"offline mode. It lacks {', '.join(lacking or ['all of its files'])}. Fetch it where there is a network: "
        f"{repository.environment}m3 download {repository.model}{at}"
    )


def _located(repository: Repository, commit: str) -> Located:
    return Located(repository.snapshot(commit), repository.model, commit)


def _intact(repository: Repository, revision: str | None) -> str | None:
    """The commit of a snapshot that is complete. Damaged files are removed."""
    commit = repository.commit(revision)
    if commit is None or not repository.snapshot(commit).is_dir():
        return None
    for file in repository.damaged(commit):
        logger.warning("%s: %s is damaged in the cache, and removed", repository.model, file.name)
        with suppress(OSError):  # where it has to stay, it is not used either
            repository.remove(commit, file)
    return None if repository.damaged(commit) or repository.missing(commit) else commit
