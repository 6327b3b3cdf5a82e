"""Optional libraries, which not every run needs."""

from importlib.util import find_spec

from .errors import UsageError


def install_command(extra: str) -> str:
    """Return the command that installs an extra, to be run in this project's folder."""
    return f"pip install -e '.[{extra}]'"


def require(module: str, extra: str) -> None:
    """Check that an optional library is installed.

    Args:
        module: Name of the library.
        extra: Extra of this project that installs it.
    Raises:
        UsageError: It is not installed; the message has the command that installs it.
    """
    if find_spec(module) is None:
        raise UsageError(
            f"This needs {module}, which is not installed. In this project's folder, run `{install_command(extra)}`."
        )
