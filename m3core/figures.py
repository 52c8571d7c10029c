"""What all pictures share: their files, fonts that know Chinese, and a colour for each mode. matplotlib loads late."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m3core.errors import InvalidInput, M3Warning, MissingDependency
from m3core.output import Mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

LOOKS = {
    "dense": ("dense", "#56B4E9"),
    "sparse": ("sparse", "#E69F00"),
    "multivector": ("multi-vector", "#009E73"),
    "hybrid": ("hybrid", "#0072B2"),
    "bm25": ("BM25", "#BBBBBB"),
}
"""The name and the colour of each system. Colours of Okabe and Ito (Color Universal Design, 2008), which the
colour-blind tell apart; BM25 is grey."""

_CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",  # what matplotlib calls all of a collection's fonts
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)


def bars(shares: Mapping[Mode, float]) -> dict[Mode, float]:
    """How long the bar of each share is, beside the largest of them: from 0, also for what is negative, to 1."""
    most = max(map(abs, shares.values()), default=0.0) or 1.0
    return {mode: max(0.0, share) / most for mode, share in shares.items()}


def check_plot(path: str | Path) -> None:
    """Finds out before the work whether a picture can be written.

    Raises:
        MissingDependency: matplotlib is not installed.
        InvalidInput: the file has none of the `FORMATS`, or its folder does not exist.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingDependency("a plot needs matplotlib: pip install 'm3-retrieval[eval]'") from error
    path = Path(path)
    if path.suffix.lower() not in FORMATS or not path.absolute().parent.is_dir():
        raise InvalidInput(f"a plot is a {', '.join(FORMATS)} file in a folder that exists, not {path}")


@contextmanager
def drawn(path: str | Path, width: float, height: float) -> Iterator["Figure"]:
    """A figure to draw into, which is written at the end.

    Args:
        path: ends in one of the `FORMATS`.
        width: in inches.
        height: likewise.

    Raises:
        MissingDependency: as `check_plot`.
        InvalidInput: as `check_plot`.
    """
    check_plot(path)
    import matplotlib as mpl
    from matplotlib import font_manager
    from matplotlib.figure import Figure

    installed = set(font_manager.get_font_names())
    with mpl.rc_context({"font.family": ["DejaVu Sans", *(f for f in _CHINESE if f in installed)], "font.size": 9}):
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        yield figure
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            figure.savefig(path, bbox_inches="tight")  # also what stands beside the axes
    missing = [warning for warning in caught if "missing from font" in str(warning.message)]
    for other in caught:
        if other not in missing:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if missing:
        warnings.warn(
            f"{len(missing)} characters are drawn as boxes, for no installed font has them: install {_CHINESE[0]} "
            "(Debian's package fonts-noto-cjk, say), and remove matplotlib's cache of fonts",
            M3Warning,
            stacklevel=4,
        )
