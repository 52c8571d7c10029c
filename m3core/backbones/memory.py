"""One name for the many ways of saying that memory ran out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from m3core.errors import OutOfMemory

# of a CPU, MPS, cuBLAS and OpenVINO
_WORDS = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Turns the ways of torch, numpy and OpenVINO to say that memory ran out into `OutOfMemory`."""
    try:
        yield
    except OutOfMemory:
        raise
    except MemoryError as error:
        raise OutOfMemory(str(error)) from error
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(str(error).split("\n", 1)[0]) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _WORDS):
            raise
        raise OutOfMemory(str(error).split("\n", 1)[0]) from error
