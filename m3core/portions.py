"""Work in portions: writes, and texts to tokenize."""

from collections.abc import Sequence


def by_portions(sizes: Sequence[int], most: int, most_bytes: int) -> list[list[int]]:
    """Rows by turns, as many at a time as one turn takes.

    Args:
        sizes: of each row, in bytes; or another unit, and `most_bytes` likewise.
        most: rows in a portion.
        most_bytes: bytes in a portion; a single row may have more.

    Returns:
        The rows of each portion.
    """
    portions: list[list[int]] = []
    filled = most_bytes + 1
    for row, size in enumerate(sizes):
        if filled + size > most_bytes or len(portions[-1]) == most:
            portions.append([])
            filled = 0
        portions[-1].append(row)
        filled += size
    return portions
