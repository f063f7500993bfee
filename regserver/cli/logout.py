"""``regserver logout``: a word of its own for the table of groups."""

from __future__ import annotations

from regserver.cli.login import LOGOUT

COMMANDS = (LOGOUT,)
