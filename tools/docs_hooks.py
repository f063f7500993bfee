"""What mkdocs does besides: a page that the navigation forgot is added to it, and links into the source become names.

A page is written where it belongs and is found on the site at once; decisions (docs/adr) have a section of their own.
"""

import re
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\[([^]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")


def on_config(config: Any) -> Any:
    """Adds what no entry names: decisions in their order, everything else below "More"."""
    folder = Path(config["docs_dir"])
    known = set(_pages(config["nav"]))
    left = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.md"))]
    left = [name for name in left if name not in known]
    decisions = [name for name in left if name.startswith("adr/")]
    others = [name for name in left if name not in decisions]
    config["nav"] += [{"More": others}] if others else []
    config["nav"] += [{"Decisions": decisions}] if decisions else []
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """A link to a file outside of docs cannot lead anywhere on the site; one to nothing stays, and fails."""
    folder = (PROJECT / "docs" / page.file.src_uri).parent

    def named(match: re.Match[str]) -> str:
        path = (folder / match[2]).resolve()
        is_source = path.exists() and not path.is_relative_to(PROJECT / "docs")
        return f"{match[1]} (`{path.relative_to(PROJECT)}`)" if is_source else match[0]

    return _LINK.sub(named, markdown)


def _pages(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    rows = entries.values() if isinstance(entries, dict) else entries
    return [page for row in rows for page in _pages(row)]
