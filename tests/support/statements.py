"""The catalog's statements, found by their names."""

import importlib
import pkgutil
import re

from regserver.storage import catalog

_BEGINS = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+(or\s+\w+\s+)?into\s|replace\s+into\s|update\s+\w+\s+set\s|delete\s+from\s"
    r"|with\s.+\sas\s*\(|(create|drop|alter)\s+(unique\s+)?(table|index)\s|pragma\s)",
    re.IGNORECASE | re.DOTALL,
)
PLACEHOLDER = re.compile(r"\$(\d+)")
_UNFINISHED = re.compile(r"<\w+>")  # a statement that its module completes from a closed table of orders


def is_statement(text: str) -> bool:
    return _BEGINS.match(text) is not None


def named_statements() -> dict[str, str]:
    """The catalog's statements by ``module.NAME``; those of a table of statements by ``module.NAME[key]``."""
    found: dict[str, str] = {}
    for info in pkgutil.iter_modules(catalog.__path__):
        module = importlib.import_module(f"{catalog.__name__}.{info.name}")
        for name, value in vars(module).items():
            if name.isupper():
                table = {f"[{key}]": text for key, text in value.items()} if isinstance(value, dict) else {"": value}
                found |= {f"{info.name}.{name}{key}": sql for key, sql in table.items() if isinstance(sql, str)}
    return {name: sql for name, sql in found.items() if is_statement(sql) and not _UNFINISHED.search(sql)}


STATEMENTS = named_statements()
