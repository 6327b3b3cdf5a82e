"""Libraries that not every run needs, and that are installed on demand."""

from importlib.util import find_spec

from .errors import UsageError


def require(module: str, extra: str) -> None:
    """See that a library is there.

    Raises:
        UsageError: it is not; with the command that installs it.
    """
    if find_spec(module) is None:
        raise UsageError(
            f"This needs {module}, which is not installed. In this project's folder, `pip install -e '.[{extra}]'`."
        )
