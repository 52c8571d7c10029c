"""Every error and warning that m3-retrieval raises. Each message says what to do about it."""


class M3Error(Exception):
    """Base of all errors raised on purpose by m3-retrieval."""


class InvalidInput(M3Error, ValueError):
    """An argument, a text or a record that cannot be used as it is. Nothing was encoded or written."""


class UnsupportedMode(M3Error, ValueError):
    """A representation was asked for that the model, or the output at hand, does not have."""


class ModelNotFound(M3Error):
    """Neither a local directory nor a hub repository of that name exists."""


class InvalidModel(M3Error):
    """A model directory that is incomplete, damaged or of a kind that cannot be loaded."""


class DownloadFailed(M3Error):
    """No model hub could be reached, or none delivered the files.

    Attributes:
        answers: what each endpoint answered, by its address; empty if none was asked.
    """

    def __init__(self, message: str, *, answers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.answers = answers or {}


class OutOfMemory(M3Error, MemoryError):
    """Even a single text does not fit into the device's memory."""


class TrainingFailed(M3Error):
    """Training cannot go on: it diverged, or what it left to go on from is of another run."""


class EncoderClosed(M3Error):
    """An encoder was closed, before a call or during it, or comes from the process that this one was forked from."""


class WorkerDied(M3Error):
    """A process that holds a model on one of several devices ended by itself, and again when it was replaced."""


class CollectionMismatch(M3Error, ValueError):
    """A collection holds other vectors than those at hand: another model, other settings, modes or dimensions."""


class StoreError(M3Error):
    """A store cannot do its work: it is closed, inherited over a fork, or its engine failed."""


class CollectionLocked(StoreError):
    """A collection on disk is open already, in this or in another process."""


class MissingDependency(M3Error, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class M3Warning(UserWarning):
    """Base of all warnings issued by m3-retrieval."""


class TruncationWarning(M3Warning):
    """Some texts were longer than the maximum length, and were cut."""


class UnknownTokensWarning(M3Warning):
    """A large share of the tokens is outside the model's vocabulary."""


class WorkerWarning(M3Warning):
    """A process that holds a model on one of several devices ended by itself, and was replaced."""


class StoreWarning(M3Warning):
    """A store does its work, but not as well as it could."""


class CacheWarning(M3Warning):
    """A cache could not be read or written; the work was done without."""
