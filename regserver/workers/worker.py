"""A worker: a whole server on sockets that its supervisor has bound, which tells it when to go."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence

from regserver import logs, serving
from regserver.app import load_admin_token
from regserver.cli.exits import USAGE
from regserver.config import ConfigError
from regserver.content.core import Health
from regserver.web.context import SERVICES
from regserver.workers import channel
from regserver.workers.channel import Order

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """The exit code. ``arguments``: descriptors, of the channel and of the sockets to listen on."""
    end, *doors = [socket.socket(fileno=int(argument)) for argument in arguments]
    try:
        order = channel.take(end)
    except EOFError:
        return 1
    logs.configure(order.settings.log_format)
    try:
        admin_token = load_admin_token(order.settings)
        return serving.run_to_its_end(serve(order, admin_token, end, doors))
    except ConfigError as error:
        sys.stderr.write(f"regserver: {logs.clean(str(error))}\n")
        return USAGE


async def serve(order: Order, admin_token: str, end: socket.socket, doors: Sequence[socket.socket]) -> None:
    """Serves until the supervisor says stop, or has ended. Signals are the supervisor's: a service manager sends them
    to every process, and a second one would mean to end at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None)
    async with serving.served(order.settings, admin_token, doors) as (app, _):
        end.setblocking(False)
        health = app[SERVICES].core.health
        health.tell = lambda reason: channel.tell(end, channel.FAILED + reason.encode())
        channel.tell(end, channel.READY)
        logger.info("worker serves", extra={"worker": order.index})
        await _told_to_stop(end, health)


async def _told_to_stop(end: socket.socket, health: Health) -> None:
    loop = asyncio.get_running_loop()
    while (message := await loop.sock_recv(end, channel.MOST)) not in (b"", channel.STOP):
        if message.startswith(channel.FAILED):
            health.fail(message.removeprefix(channel.FAILED).decode())
