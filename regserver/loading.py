"""Settings as they are given: flags beat the environment, which beats the TOML file, which beats the defaults."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regserver.config import PREFIX, SETTINGS, ConfigError, Setting, Settings, is_loopback

# Variables of this prefix that are no settings: the administrator's token (a secret has no flag), the file itself, the
# server and token of the client's commands, what the test suite calls CI, and what Kubernetes sets in a namespace that
# has a service of the name "regserver".
_OTHER_VARIABLES = re.compile(
    rf"{PREFIX}((ADMIN_TOKEN|CONFIG|SERVER|TOKEN|CI|SERVICE_HOST|SERVICE_PORT.*|PORT_.*)=.*|PORT=\w+://.*)"
)


def load(
    flags: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    *,
    file: str | None = None,
) -> Settings:
    """Settings from ``flags`` (by setting name) over the environment over the TOML file over the defaults.

    ``file`` is ``--config``; without it ``REGSERVER_CONFIG``. Raises ConfigError.
    """
    environment = os.environ if environment is None else environment
    _refuse_unknown_variables(environment)
    file = file or environment.get(f"{PREFIX}CONFIG")
    values = _from_file(Path(file)) if file else {}
    for setting in SETTINGS:
        if setting.variable in environment:
            values[setting.field] = _parse(setting, environment[setting.variable], setting.variable)
        if setting.name in flags:
            values[setting.field] = _parse(setting, flags[setting.name], f"--{setting.name}")
    if "root" not in values:
        raise ConfigError("root is not set: pass --root DIR, or set REGSERVER_ROOT or root in the TOML file")
    if "listen" in values:
        values["host"], values["port"] = values.pop("listen")
    return _checked(Settings(**values))


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {setting.variable for setting in SETTINGS}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not _OTHER_VARIABLES.match(f"{name}={environment[name]}"):
            raise ConfigError(f"{_shown(name)}: there is no such setting{_nearest(name, known)}")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{_shown(str(file))}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_shown(str(file))}: not TOML: {_shown(str(error))}") from None
    known = {setting.key: setting for setting in SETTINGS}
    values = {}
    for key, value in content.items():
        where = f"{_shown(str(file))}: {_shown(key)}"
        if key not in known:
            raise ConfigError(f"{where}: there is no such setting{_nearest(key, set(known))}")
        values[known[key].field] = _parse(known[key], _text(value, where), where)
    return values


def _text(value: object, where: str) -> str:
    """A TOML value as the text that a flag would have."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(item, str) for item in value):
            return ",".join(value)
    raise ConfigError(f"{where}: must be a text, a number, true or false")


def _parse(setting: Setting, text: str, where: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        instead = "" if setting.secret else f", not {_shown(text)!r}"
        raise ConfigError(f"{where}: {error}{instead}") from None


def _nearest(name: str, known: set[str]) -> str:
    import difflib  # only an error needs it

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def _checked(settings: Settings) -> Settings:
    """What no setting can say alone."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key belong together: one of them is missing")
    if settings.dev and not is_loopback(settings.host):
        raise ConfigError(
            f"--dev is open to everybody and therefore listens on loopback only, not on {_shown(settings.host)}; "
            "use --listen 127.0.0.1:PORT, or leave --dev out"
        )
    return settings
