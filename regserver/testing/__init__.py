"""A registry for the tests of programs that push and pull: the real server, in a thread, on a free port of 127.0.0.1.

pytest has it as the fixture ``registry`` (docs/testing.md); everywhere else it is ``with serve() as registry:``. The
server imports nothing of this package, and only ``regserver.testing.plugin`` imports pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regserver.testing.faults import Fault, Faults
    from regserver.testing.images import Image
    from regserver.testing.recording import Request
    from regserver.testing.registry import Credentials, Loaded, Registry, serve
    from regserver.testing.server import RegistryServer

__all__ = ["Credentials", "Fault", "Faults", "Image", "Loaded", "Registry", "RegistryServer", "Request", "serve"]

_PLACES = {
    "Fault": "faults",
    "Faults": "faults",
    "Image": "images",
    "Request": "recording",
    "RegistryServer": "server",
}


def __getattr__(name: str) -> Any:
    """Each name when it is first asked for: pytest loads the plugin in every run, the server only for who uses it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES.get(name, 'registry')}"), name)
