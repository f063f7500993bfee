"""The listening sockets: one for each worker, all on one address, so that the kernel spreads connections over them
(SO_REUSEPORT, socket(7)).

They are the supervisor's. A worker that dies leaves its own open: who connects meanwhile waits for the next one.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

Address = tuple[socket.AddressFamily, Any]


@dataclass(slots=True)
class Door:
    """One worker's sockets, one for each address of the host. Bound, they take nobody until the worker listens."""

    addresses: list[Address]
    sockets: list[socket.socket] = field(default_factory=list)

    def open(self) -> None:
        """Binds what is not bound. Raises OSError."""
        if not self.sockets:
            self.sockets = [_bound(address, shared=True) for address in self.addresses]

    def close(self) -> None:
        """Whoever waits here is refused, and the next ones go to other doors."""
        for one in self.sockets:
            one.close()
        self.sockets = []

    @property
    def descriptors(self) -> list[int]:
        return [one.fileno() for one in self.sockets]


def open_doors(host: str, port: int, count: int) -> list[Door]:
    """Bound before any worker starts, so that port 0 is one port for all. Raises OSError when it cannot be used, also
    where another server shares its port in the same way."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: list[Address] = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    if port:
        for address in addresses:
            _bound(address, shared=False).close()
    first = Door(addresses)
    first.open()
    addresses = [(one.family, one.getsockname()) for one in first.sockets]
    doors = [first, *(Door(addresses) for _ in range(count - 1))]
    for door in doors:
        door.addresses = addresses
        door.open()
    return doors


def _bound(address: Address, *, shared: bool) -> socket.socket:
    family, place = address
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(place)
    except BaseException:
        one.close()
        raise
    return one
