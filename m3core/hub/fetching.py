"""Fetches a model: from one endpoint after the other until all of its files are there, and are what they should be."""

import logging
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from m3core.errors import DownloadFailed, InvalidModel, ModelNotFound
from m3core.hub.answers import Answer
from m3core.hub.cached import Repository
from m3core.hub.endpoints import Endpoint, Health
from m3core.hub.listing import Listing, RepoFile, listing
from m3core.hub.transfer import NoRange, Partial, receive

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("m3core.hub")

_WAITS = (0.0, 1.0, 4.0)  # seconds before each round of all endpoints that brings nothing new
_LONGEST_WAIT = 60.0  # that an endpoint may ask for
_PROGRESS = 1 << 16  # bytes that make it worth while to go on at the same endpoint


class Fetch:
    """One attempt to bring a model here.

    Attributes:
        answers: what each endpoint answered last that was no success, by address.
    """

    def __init__(self, repository: Repository, choice: Sequence[Endpoint], token: str | None) -> None:
        """Asks these endpoints, the trusted ones with the token."""
        self._repository = repository
        self._choice, self._token = choice, token
        self._health = Health()
        self.answers: dict[str, str] = {}

    @property
    def is_hopeless(self) -> bool:
        """Whether no endpoint answered lately, so that one who has the files need not wait for another try."""
        return not any(self._health.is_well(endpoint) for endpoint in self._choice)

    def look_up(self, revision: str | None, *, patiently: bool) -> tuple[Listing, Endpoint]:
        """What the first endpoint that answers says that the model is.

        Args:
            revision: a branch, tag or commit.
            patiently: whether to ask again where no endpoint answers well.

        Raises:
            ModelNotFound: those that answer do not have it.
            InvalidModel: it holds nothing that can be loaded.
            DownloadFailed: none answers.
        """
        model, unknown = self._repository.model, False
        choice, wait = self._health.ordered(self._choice), 0.0
        for pause in _WAITS if patiently else _WAITS[:1]:
            time.sleep(max(pause, wait))
            answers = {}
            for endpoint in choice:
                try:
                    found = listing(model, revision, endpoint, self._token_for(endpoint))
                except InvalidModel:
                    raise
                except Exception as error:  # in one of the many ways of clients and networks
                    answers[endpoint] = self._note(endpoint, error)
                else:
                    self._health.answered(endpoint)
                    return found, endpoint
            unknown |= any(answer.not_found for answer in answers.values())
            choice, wait = _again({e: a for e, a in answers.items() if not a.silent and (a.reached or not unknown)})
            if not choice:
                break
        at = f" at revision {revision!r}" if revision else ""
        if unknown:
            raise ModelNotFound(
                f"{model!r} is neither a directory nor a hub repository{at}:\n{self._said()}\n"
                "Check the name, and your access if the repository is private (token= or HF_TOKEN)"
            )
        raise self.failure()

    def bring(self, wanted: Listing, first: Endpoint) -> str:
        """Brings the files into the cache. Returns the endpoints that they came from.

        Raises:
            DownloadFailed: not all could be had, or the disk is full. What has arrived is kept.
        """
        from huggingface_hub.utils import are_progress_bars_disabled  # type: ignore[attr-defined]
        from tqdm.auto import tqdm

        repository = self._repository
        lacking = [file for file in wanted.files if not repository.has(file, wanted.commit)]
        self._check_space(lacking)
        sources: dict[str, None] = {}
        total = sum(file.size for file in wanted.files)
        bar = tqdm(
            total=total,
            initial=total - sum(file.size for file in lacking),
            unit="B",
            unit_scale=True,
            desc=repository.model,
            disable=True if are_progress_bars_disabled() or not lacking else None,
        )
        with bar:
            for file in lacking:
                with repository.lock(file):
                    if repository.has(file, wanted.commit):  # by another process, meanwhile
                        bar.update(file.size)
                        continue
                    sources[str(self._deliver(file, wanted.commit, first, bar))] = None
                    repository.keep(file)
        return ", ".join(sources or [str(first)])

    def _deliver(self, file: RepoFile, commit: str, first: Endpoint, bar: "tqdm[None]") -> Endpoint:
        """One file, from the endpoint that delivers it."""
        begin = bar.n
        choice = sorted(self._health.ordered(self._choice), key=lambda endpoint: endpoint != first)
        wait = 0.0
        path = self._repository.partial(file)
        with Partial(path, file, lambda size: bar.update(begin + size - bar.n)) as partial:
            for pause in _WAITS:
                time.sleep(max(pause, wait))
                answers = {}
                for endpoint in choice:
                    answer = self._receive(file, commit, endpoint, partial)
                    if answer is None:
                        return endpoint
                    answers[endpoint] = answer
                choice, wait = _again(answers)
                if not choice:
                    break
        raise self.failure()

    def _receive(self, file: RepoFile, commit: str, endpoint: Endpoint, partial: Partial) -> Answer | None:
        """The rest of a file from one endpoint, as often as each try brings much of it; its answer if that fails."""
        ranges = True
        while True:
            begin = partial.size
            request = self._request(file, commit, endpoint)
            try:
                receive(*request, partial, ranges=ranges)
            except DownloadFailed:
                raise
            except Exception as error:  # in one of the many ways of clients and networks
                answer = self._note(endpoint, error)
                if isinstance(error, NoRange) and ranges:
                    ranges = False
                elif partial.size < begin + _PROGRESS:
                    return answer
            else:
                self._health.answered(endpoint)
                return None

    def _request(self, file: RepoFile, commit: str, endpoint: Endpoint) -> tuple[str, dict[str, str]]:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = hf_hub_url(self._repository.model, file.name, revision=commit, endpoint=endpoint.address)
        return url, build_hf_headers(token=self._token_for(endpoint), library_name="m3-retrieval")

    def _token_for(self, endpoint: Endpoint) -> str | bool | None:
        return self._token if endpoint.trusted else False

    def _note(self, endpoint: Endpoint, error: Exception) -> Answer:
        answer = Answer.of(error, secret=self._token)
        self.answers[str(endpoint)] = answer.text
        if answer.unwell:
            self._health.failed(endpoint)
        logger.warning("%s: %s", endpoint, answer.text)
        return answer

    def _said(self) -> str:
        return "\n".join(f"  {address}: {text}" for address, text in self.answers.items())

    def failure(self) -> DownloadFailed:
        """The error that says what each endpoint answered."""
        return DownloadFailed(
            f"{self._repository.model} could not be fetched:\n{self._said()}\n"
            "What has arrived is kept, and the next try goes on from there. Give the address of a mirror as endpoint= "
            "or in M3_ENDPOINTS, or a local directory; 'm3-mini' needs no network",
            answers=dict(self.answers),
        )

    def _check_space(self, lacking: Sequence[RepoFile]) -> None:
        """Refuses what would not fit on the disk."""
        place = self._repository.folder
        while not place.exists() and place != place.parent:
            place = place.parent
        partials = (self._repository.partial(file) for file in lacking)
        arrived = sum(partial.stat().st_size for partial in partials if partial.exists())
        wanted, free = sum(file.size for file in lacking) - arrived, shutil.disk_usage(place).free
        if wanted > free:
            raise DownloadFailed(
                f"{self._repository.model} needs {wanted / 1e9:.2f} GB more, and {place} has {free / 1e9:.2f} GB free. "
                "Free some, or choose another place by cache_folder= or HF_HUB_CACHE"
            )


def _again(answers: dict[Endpoint, Answer]) -> tuple[list[Endpoint], float]:
    """Which endpoints it makes sense to ask again, and the seconds after which one of them wants that, if any does."""
    choice = [e for e, answer in answers.items() if not answer.for_good and answer.wait <= _LONGEST_WAIT]
    return choice, min((answers[endpoint].wait for endpoint in choice if answers[endpoint].wait), default=0.0)
