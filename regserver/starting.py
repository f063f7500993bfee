"""How a server comes up quickly: what takes time while modules are imported, and serves nobody, is left out."""

from __future__ import annotations

import contextlib
import gc
import ssl
from collections.abc import Iterator


@contextlib.contextmanager
def swift_imports() -> Iterator[None]:
    """Inside, no garbage is collected, and the system's certificates are not read.

    The HTTP framework reads them for its client as it is imported, an eighth of a start; nothing here is a client. One
    that came to be in this process would trust nobody, and would need a context of its own.
    """
    load = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = _load_nothing  # type: ignore[method-assign,assignment]
    gc.disable()
    try:
        yield
    finally:
        ssl.SSLContext.load_default_certs = load  # type: ignore[method-assign]
        gc.enable()
        gc.freeze()  # what was imported stays: no later collection needs to look through it


def _load_nothing(context: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
    pass
