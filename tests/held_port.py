"""A port of this machine that no other process can take, for a server that must come back at the same address."""

from __future__ import annotations

import socket

__all__ = ["hold_port"]


def hold_port() -> socket.socket:
    """A socket that is bound to a free port and does not listen; closing it gives the port back.

    A server that sets SO_REUSEADDR, as Python's, uvicorn and vLLM do, can listen at the port meanwhile, and again after
    it ended; a process that asks for any free port is given another.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
