"""Loopback ports for the local services.

Find a free port, or name the process that uses the requested one.
"""

from __future__ import annotations

import socket

import psutil

from riskwatch_ml.core.errors import UserInputError

LOOPBACK = "127.0.0.1"
# Ports that `free_port` has returned; a service may not listen on its port yet, and no other may get it.
_given: set[int] = set()


class PortTakenError(UserInputError):
    """A requested port is in use or does not exist."""


def free_port() -> int:
    """Return a TCP port that is free on loopback and was not returned before."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def is_free(port: int) -> bool:
    """Return whether a service could listen on `port` of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too: a port with connections in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def owner(port: int) -> str:
    """Return "name (pid N)" of the process that listens on `port`.

    If this process may not read it: "another process".
    """
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, PermissionError):
        return "another process"
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or connection.laddr.port != port or connection.pid is None:
            continue
        try:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except psutil.Error:
            return f"pid {connection.pid}"
    return "another process"


def claim(port: int | None, purpose: str) -> int:
    """Return `port` if it is free, or any free port if it is None or 0.

    Raises PortTakenError, which names the purpose, the port and the process that uses it.
    """
    if not port:
        return free_port()
    if not 0 < port < 65536:
        raise PortTakenError(f"port {port} for {purpose} does not exist: choose one between 1024 and 65535")
    if not is_free(port):
        raise PortTakenError(
            f"port {port} for {purpose} is taken by {owner(port)}: stop that process, choose another port, "
            "or leave the port out to have a free one chosen"
        )
    return port
