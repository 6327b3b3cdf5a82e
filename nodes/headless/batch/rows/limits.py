"""Sizes that no table may exceed, so that a wrong file ends in an error and not in hours of work."""

MAX_ROWS = 200_000
"""Most rows of a table. The page of so many pictures is about as large as a browser can show."""
MAX_COLUMNS = 1000
"""Most columns of a table."""
MAX_NAME = 300
"""Most characters of a column's name."""
MAX_CELLS = 4_000_000
"""Most cells of a table that are not empty. Each takes about 100 bytes of memory."""
MAX_CELL = 100_000
"""Most characters of a cell."""
MAX_CHARACTERS = 64 * 2**20
"""Most characters of all cells together."""


def too_many(name: str, what: str, most: int) -> str:
    """Return the error about a table with too many rows, columns or cells.

    Args:
        name: Path of the table.
        what: What there is too much of, such as "rows".
        most: Most of it.
    """
    return f"{name} has more than {most:,} {what}, the most of a table. Divide it into several tables."


def shown(names: list[str]) -> str:
    """Return the first names of a list, divided by commas, for a message."""
    return ", ".join([*(name[:60] for name in names[:10]), *(["..."] if len(names) > 10 else [])])
