"""A Ray cluster: joining it or starting one, and seeing that a batch can run there before it waits for ever."""

import logging
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ...errors import BackendError, UsageError

_FORWARDED = ("WUERSTCHEN_MODELS", "HF_HOME")
"""Variables of the environment that say where weights are."""


@dataclass(frozen=True)
class Share:
    """What one actor asks Ray for. cpus: whole ones, and so many threads it computes with. gpus: may be a fraction."""

    cpus: int
    gpus: float


def join(address: str | None, cpus: int) -> None:
    """Connect this process to a cluster.

    Args:
        address: None to start one on this machine. cpus: what that one says it has.
    Raises:
        BackendError: there is none at the address.
    """
    if address is not None:
        _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and not _can_keep_token():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    forwarded = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": forwarded},
            **own,
        )
    except (ConnectionError, RuntimeError, ValueError, PermissionError) as error:
        where = f"at {address}" if address else "on this machine"
        raise BackendError(f"No Ray cluster {where}: {error}") from error


def _knock(address: str) -> None:
    """See that somebody listens there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # a name that Ray knows, such as auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise BackendError(f"No Ray cluster at {address}: {error.strerror or error}.") from error


def shares(actors: int, threads: int | None) -> Share:
    """What each of so many actors may ask for, so that all of them run at once and Ray Data keeps one CPU for itself.

    Args:
        threads: for each; what fits where None.
    Raises:
        UsageError: they cannot all run.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = int(sum(node.get("CPU", 0) for node in nodes))
    cards = int(sum(node.get("GPU", 0) for node in nodes))
    on_card = -(-actors // cards) if cards else 0
    gpus = 1 / on_card if on_card else 0.0
    largest = threads or max(1, (total - 1) // actors)
    for cpus in range(largest, 0, -1) if threads is None else [threads]:
        places = sum(_places(node, cpus, gpus) for node in nodes)
        if places >= actors and total >= actors * cpus + 1:
            return Share(cpus, gpus)
    each = f"{threads or 1} CPUs" + (f" and {gpus:.2g} GPUs" if cards else "")
    raise UsageError(
        f"The Ray cluster has {total} CPUs on {len(nodes)} nodes; {actors} actors of {each} each, and one CPU for Ray "
        "Data itself, do not fit there. Take fewer --workers or --threads."
    )


def check_nodes(folder: Path) -> None:
    """See that every node has this package and the output folder.

    Args:
        folder: inside the output folder.
    Raises:
        UsageError: a node has not.
    """
    token = folder / "seen"
    token.write_text(secrets.token_hex(8))
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        try:
            found = ray.get(look.options(scheduling_strategy=there).remote(str(token)))
        except RayError as error:
            cause = str(error).strip().splitlines()[-1]
            raise UsageError(f"Node {node['NodeManagerAddress']} cannot take part: {cause}") from error
        if found != token.read_text():
            raise UsageError(
                f"Node {node['NodeManagerAddress']} does not see {folder}; --out has to be on a file system that all "
                "nodes share."
            )
    token.unlink()


def _look(path: str) -> str | None:

    return Path(path).read_text() if Path(path).exists() else None


def _places(node: dict[str, float], cpus: int, gpus: float) -> int:
    """How many actors a node has room for."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    return min(by_cpu, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpu


def _can_keep_token() -> bool:
    """Whether Ray can write the token that protects its cluster where it wants to."""
    home = Path.home()
    return (home / ".ray" / "auth_token").exists() or os.access(home, os.W_OK)
