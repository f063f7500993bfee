"""What a worker and its supervisor tell each other: short messages over a pair of sockets, whole or not at all
(SOCK_SEQPACKET, unix(7)).

    supervisor → worker   the order, first; ``stop``; ``failed <why>``
    worker → supervisor   ``ready``; ``failed <why>``

When the other end closes, its process has ended: a worker without a supervisor goes the way out.
"""

from __future__ import annotations

import pickle
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from regserver.config import Settings

READY: Final = b"ready"
STOP: Final = b"stop"
FAILED: Final = b"failed "
MOST = 64 * 1024  # bytes of a message


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do. ``settings`` are its own share; they may hold a password, so they are in no argument."""

    index: int
    settings: Settings


def pair() -> tuple[socket.socket, socket.socket]:
    """(the supervisor's end, the worker's)."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setblocking(False)
    return here, there


def give(end: socket.socket, order: Order) -> None:
    end.send(pickle.dumps(order))


def take(end: socket.socket) -> Order:
    """In the worker: waits for the order. Raises EOFError where the supervisor has ended."""
    received = end.recv(MOST)
    if not received:
        raise EOFError("the supervisor has ended")
    order = pickle.loads(received)  # noqa: S301  from the process that started this one, over a socket without a name
    if not isinstance(order, Order):
        raise TypeError("that was no order")
    return order


def tell(end: socket.socket, message: bytes) -> None:
    """Never waits. To one that has ended, or that does not listen, nothing is told."""
    with suppress(OSError):
        end.send(message[:MOST])
