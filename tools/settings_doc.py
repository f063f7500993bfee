"""docs/settings.md from the one table of settings. `tools/settings_doc.py` writes it; a test holds it to the table."""

from pathlib import Path

from regserver.config import SETTINGS

PATH = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """# Settings

Every setting can be given in three ways; flags win over variables, variables over the file.

- a flag of `regserver serve`: `--lease-seconds 3600`
- an environment variable: `REGSERVER_LEASE_SECONDS=3600`
- a key in a TOML file, named by `--config FILE` or `REGSERVER_CONFIG`: `lease_seconds = 3600`

A name or a value that is not right ends the command with one line on stderr and exit code 2. The administrator's token
has no flag, because everybody on a machine can read arguments: it comes from a file or from `REGSERVER_ADMIN_TOKEN`.
For the same reason a password does not belong into the flag `--database`: leave it out of the URL and put it into
`~/.pgpass`, or give the URL as a variable or in the file. It is never logged or shown.

<!-- The table is written by tools/settings_doc.py. -->

| flag | variable | TOML key | default | meaning |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole document."""
    return HEAD + "".join(
        f"| `{' '.join(filter(None, [f'--{setting.name}', setting.metavar.replace('|', chr(92) + '|')]))}` "
        f"| `{setting.variable}` | `{setting.key}` | {setting.default or 'none, required'} | {setting.help} |\n"
        for setting in SETTINGS
    )


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render(), encoding="utf-8")
