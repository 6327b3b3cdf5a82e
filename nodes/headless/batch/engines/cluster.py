"""Join or start a Ray cluster, and check that a batch fits into it. Otherwise Ray would wait without an error."""

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
from ...threads import POLICY

_FORWARDED = ("WUERSTCHEN_MODELS", "HF_HOME")
"""Environment variables that name the folders of weights; actors get them, too, and those of `threads.POLICY`."""


@dataclass(frozen=True)
class Share:
    """Resources of one actor.

    Attributes:
        cpus: Number of CPUs, and of CPU threads.
        gpus: Number of graphics cards, such as 0.5 if two actors share a card.
    """

    cpus: int
    gpus: float


def join(address: str | None, cpus: int) -> None:
    """Connect this process to a cluster.

    Args:
        address: Address of the cluster; None to start one on this machine.
        cpus: Number of CPUs of a cluster that is started.
    Raises:
        BackendError: There is no cluster at the address, or none can be started.
    """
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and not _can_keep_token():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    forwarded = {**POLICY, **{name: os.environ[name] for name in (*_FORWARDED, *POLICY) if name in os.environ}}
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


def _check_reachable(address: str) -> None:
    """Raise BackendError if nothing listens at an address; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # a name that Ray resolves, such as "auto"
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise BackendError(f"No Ray cluster at {address}: {error.strerror or error}.") from error


def share_of(actors: int, threads: int | None) -> Share:
    """Return the resources of each actor, so that all run at the same time. One CPU is left for Ray Data.

    Args:
        actors: Number of actors.
        threads: CPU threads of each actor; None for as many as fit.
    Raises:
        UsageError: The actors do not fit into the cluster.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = int(sum(node.get("CPU", 0) for node in nodes))
    cards = int(sum(node.get("GPU", 0) for node in nodes))
    per_card = -(-actors // cards) if cards else 0
    gpus = 1 / per_card if per_card else 0.0
    largest = threads or max(1, (total - 1) // actors)
    for cpus in range(largest, 0, -1) if threads is None else [threads]:
        fitting = sum(_actors_on(node, cpus, gpus) for node in nodes)
        if fitting >= actors and total >= actors * cpus + 1:
            return Share(cpus, gpus)
    each = f"{threads or 1} CPUs" + (f" and {gpus:.2g} GPUs" if cards else "")
    raise UsageError(
        f"The Ray cluster has {total} CPUs on {len(nodes)} nodes; {actors} actors of {each} each, and one CPU for Ray "
        "Data itself, do not fit there. Use fewer --workers or --threads."
    )


def check_nodes(folder: Path) -> None:
    """Check that every node of the cluster has this package and the output folder.

    Args:
        folder: A folder inside the output folder.
    Raises:
        UsageError: A node lacks one of them.
    """
    token = folder / "seen"
    token.write_text(secrets.token_hex(8))
    read = ray.remote(num_cpus=0, max_retries=0)(_text_of)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        try:
            found = ray.get(read.options(scheduling_strategy=there).remote(str(token)))
        except RayError as error:
            cause = str(error).strip().splitlines()[-1]
            raise UsageError(f"Node {node['NodeManagerAddress']} cannot take part: {cause}") from error
        if found != token.read_text():
            raise UsageError(
                f"Node {node['NodeManagerAddress']} does not see {folder}; --out has to be on a file system that all "
                "nodes share."
            )
    token.unlink()


def _text_of(path: str) -> str | None:
    return Path(path).read_text() if Path(path).exists() else None


def _actors_on(node: dict[str, float], cpus: int, gpus: float) -> int:
    """Return the number of actors that fit on a node."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    return min(by_cpu, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpu


def _can_keep_token() -> bool:
    """Return whether Ray can keep the token that protects a cluster in the home folder."""
    home = Path.home()
    return (home / ".ray" / "auth_token").exists() or os.access(home, os.W_OK)
