"""Settings: one table, three sources, one line per mistake."""

import runpy
from pathlib import Path

import pytest

from regserver.__main__ import main
from regserver.config import SETTINGS, ConfigError, Settings, is_loopback
from regserver.loading import load

# One acceptable text per setting, and what it becomes.
EXAMPLES = {
    "root": ("/data", Path("/data")),
    "listen": ("[::1]:0", ("::1", 0)),
    "dev": ("true", True),
    "public-url": ("https://Registry.Example.com/", "https://registry.example.com"),
    "tls-cert": ("/cert.pem", Path("/cert.pem")),
    "tls-key": ("/key.pem", Path("/key.pem")),
    "admin-token-file": ("/token", Path("/token")),
    "default-quota-gb": ("0.5", 2**29),
    "lease-seconds": ("3600", 3600),
    "upload-ttl-seconds": ("86400", 86400),
    "untagged-seconds": ("0", 0),
    "workers": ("4", 4),
    "retention-seconds": ("600", 600),
    "undo-seconds": ("0", 0),
    "collect-interval-seconds": ("0", 0),
    "epoch-seconds": ("1", 1),
    "token-seconds": ("900", 900),
    "allow-sparse": ("on", True),
    "max-manifest-bytes": ("4194304", 4 * 2**20),
    "max-upload-bytes": ("1000", 1000),
    "max-connections": ("500", 500),
    "body-idle-seconds": ("5", 5),
    "drain-seconds": ("0", 0),
    "reserve-bytes": ("0", 0),
    "trusted-proxies": ("10.0.0.0/8, 192.0.2.1", ("10.0.0.0/8", "192.0.2.1/32")),
    "audit-days": ("30", 30),
    "event-days": ("30", 30),
    "metrics-listen": ("127.0.0.1:9100", ("127.0.0.1", 9100)),
    "metrics-public": ("true", True),
    "otel": ("true", True),
    "event-count": ("1000", 1000),
    "event-streams": ("10", 10),
    "event-stream-seconds": ("60", 60),
    "failed-logins-per-minute": ("0", 0),
    "requests-per-second": ("500", 500),
    "scrub-bytes-per-second": ("0", 0),
    "scrub-interval-seconds": ("3600", 3600),
    "console-session-seconds": ("3600", 3600),
    "kept-answers-bytes": ("0", 0),
    "log-format": ("json", "json"),
    "database": ("postgresql://me:secret@db.example.com/catalog", "postgresql://me:secret@db.example.com/catalog"),
}
PAIRED = {"tls-cert": "tls-key", "tls-key": "tls-cert"}
BAD = [
    ("listen", "5000"),
    ("listen", ":5000"),
    ("listen", "::1:5000"),
    ("listen", "localhost:65536"),
    ("listen", "localhost:http"),
    ("public-url", "registry.example.com"),
    ("public-url", "https://registry.example.com/registry"),
    ("public-url", "https://user@registry.example.com"),
    ("public-url", "https://registry.example.com:port"),
    ("default-quota-gb", "0"),
    ("default-quota-gb", "-1"),
    ("default-quota-gb", "nan"),
    ("lease-seconds", "59"),
    ("lease-seconds", "2h"),
    ("lease-seconds", "٣٦٠٠"),
    ("token-seconds", "901"),
    ("max-manifest-bytes", "1024"),
    ("trusted-proxies", "proxy.example.com"),
    ("console-session-seconds", "59"),
    ("audit-days", "0"),
    ("workers", "0"),
    ("workers", "65"),
    ("event-days", "0"),
    ("metrics-listen", "9100"),
    ("metrics-public", "perhaps"),
    ("otel", "http://127.0.0.1:4318"),
    ("event-count", "99"),
    ("event-streams", "-1"),
    ("event-stream-seconds", "9"),
    ("requests-per-second", "-1"),
    ("log-format", "xml"),
    ("root", ""),
    ("database", "catalog.sqlite3"),
    ("database", "mysql://me:secret@db.example.com/catalog"),
    ("database", "postgresql://me:secret@db.example.com"),
    ("database", "postgresql://me:secret@db.example.com:port/catalog"),
]


def load_one(tmp_path: Path, source: str, name: str, text: str) -> Settings:
    """Settings where `name` is given by `source` alone; what it cannot be without comes as a flag."""
    flags = {"root": "/data"} if name != "root" else {}
    if name in PAIRED:
        flags[PAIRED[name]] = EXAMPLES[PAIRED[name]][0]
    key = name.replace("-", "_")
    if source == "flag":
        return load({**flags, name: text}, {})
    if source == "variable":
        return load(flags, {f"REGSERVER_{key.upper()}": text})
    file = tmp_path / "regserver.toml"
    file.write_text(f"{key} = '{text}'\n")
    return load(flags, {}, file=str(file))


def test_every_setting_has_an_example_here() -> None:
    assert EXAMPLES.keys() == {setting.name for setting in SETTINGS}


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_setting_can_be_given_in_all_three_ways(tmp_path: Path, source: str, name: str) -> None:
    settings = load_one(tmp_path, source, name, EXAMPLES[name][0])
    field = next(setting.field for setting in SETTINGS if setting.name == name)
    value = (settings.host, settings.port) if name == "listen" else getattr(settings, field)
    assert value == EXAMPLES[name][1]


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_is_refused_with_its_name_in_one_line(tmp_path: Path, source: str, name: str, text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_one(tmp_path, source, name, text)
    assert name.replace("-", "_").upper() in str(refusal.value).upper().replace("-", "_")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
@pytest.mark.parametrize("text", [text for name, text in BAD if name == "database"])
def test_a_bad_database_url_is_refused_without_being_shown(tmp_path: Path, source: str, text: str) -> None:
    with pytest.raises(ConfigError, match="must be postgresql://USER") as refusal:
        load_one(tmp_path, source, "database", text)
    assert text not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_settings_can_be_shown_without_the_password_of_the_database(tmp_path: Path) -> None:
    settings = load_one(tmp_path, "flag", "database", EXAMPLES["database"][0])
    assert "secret" not in repr(settings)


def test_the_defaults_are_those_that_the_help_names() -> None:
    settings = load({"root": "/data"}, {})
    for setting in SETTINGS:
        if setting.name in {"listen", "root"}:
            continue
        value = getattr(settings, setting.field)
        try:
            named = setting.parse(setting.default)
        except ValueError:
            named = () if setting.field == "trusted_proxies" else None  # words: no limit, none, plain HTTP
        if setting.field in {"public_url", "tls_cert", "tls_key", "admin_token_file"}:
            named = None
        assert value == named, setting.name
    assert f"{settings.host}:{settings.port}" == "127.0.0.1:5000"


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "regserver.toml"
    file.write_text("root = '/file'\nlease_seconds = 100\ntoken_seconds = 100\ndrain_seconds = 100\n")
    variables = {
        "REGSERVER_CONFIG": str(file),
        "REGSERVER_LEASE_SECONDS": "200",
        "REGSERVER_TOKEN_SECONDS": "200",
    }
    settings = load({"lease-seconds": "300"}, variables)
    assert (settings.lease_seconds, settings.token_seconds, settings.drain_seconds) == (300, 200, 100)


def test_the_file_may_use_its_own_types(tmp_path: Path) -> None:
    file = tmp_path / "regserver.toml"
    file.write_text(
        "root = '/data'\nallow_sparse = true\ndefault_quota_gb = 0.5\ntrusted_proxies = ['10.0.0.0/8', '::1']\n"
    )
    settings = load({}, {}, file=str(file))
    assert settings.allow_sparse
    assert settings.default_quota_bytes == 2**29
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize("content", ["lease_seconds = {a = 1}", "lease_seconds = true", "lease_seconds = 1.5", "a ="])
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "regserver.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"regserver\.toml"):
        load({"root": "/data"}, {}, file=str(file))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load({"root": "/data"}, {}, file=str(tmp_path / "missing.toml"))


def test_an_unknown_key_is_refused_and_the_nearest_one_named(tmp_path: Path) -> None:
    file = tmp_path / "regserver.toml"
    file.write_text("lease_second = 100")
    with pytest.raises(ConfigError, match="lease_second: there is no such setting; did you mean lease_seconds"):
        load({"root": "/data"}, {}, file=str(file))


def test_an_unknown_variable_is_refused_and_the_nearest_one_named() -> None:
    with pytest.raises(ConfigError, match=r"REGSERVER_ALOW_SPARSE: .* did you mean REGSERVER_ALLOW_SPARSE"):
        load({"root": "/data"}, {"REGSERVER_ALOW_SPARSE": "true"})


@pytest.mark.parametrize(
    "name",
    [
        "REGSERVER_ADMIN_TOKEN",
        "REGSERVER_CI",
        "REGSERVER_SERVICE_HOST",
        "REGSERVER_SERVICE_PORT_HTTP",
        "REGSERVER_PORT",
        "REGSERVER_PORT_5000_TCP_ADDR",
        "OTHER_VARIABLE",
    ],
)
def test_variables_of_the_surroundings_are_let_be(name: str) -> None:
    """Kubernetes sets `<SERVICE>_PORT` and the like for every service of a namespace; one may be called regserver."""
    assert load({"root": "/data"}, {name: "tcp://10.0.0.1:5000"}) == Settings(root=Path("/data"))


def test_a_port_of_its_own_is_no_setting() -> None:
    with pytest.raises(ConfigError, match="REGSERVER_PORT: there is no such setting"):
        load({"root": "/data"}, {"REGSERVER_PORT": "8080"})


def test_a_root_is_needed() -> None:
    with pytest.raises(ConfigError, match="root is not set"):
        load({}, {})


@pytest.mark.parametrize("given", [{"tls-cert": "/c"}, {"tls-key": "/k"}])
def test_certificate_and_key_belong_together(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        load({"root": "/data", **given}, {})


@pytest.mark.parametrize("address", ["0.0.0.0:5000", "[::]:5000", "192.0.2.1:5000", "registry.example.com:5000"])
def test_dev_refuses_an_address_that_others_can_reach(address: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        load({"root": "/data", "dev": "true", "listen": address}, {})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "LOCALHOST"])
def test_dev_takes_every_loopback_address(host: str) -> None:
    bracketed = f"[{host}]" if ":" in host else host
    assert load({"root": "/data", "dev": "true", "listen": f"{bracketed}:5000"}, {}).dev


@pytest.mark.parametrize("host", ["", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "2130706433"])
def test_other_names_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "root is not set"),
        (["serve", "--root", "/nonexistent", "--dev", "--listen", "0.0.0.0:5000"], "loopback only"),
        (["serve", "--root", "/nonexistent", "--lease-seconds", "soon"], "--lease-seconds: must be a whole number"),
        (["serve", "--rot", "/nonexistent"], "--rot"),
        (["serve", "--lease", "100"], "--lease"),
        (["surve"], "surve"),
        ([], "COMMAND"),
        (["keys"], "COMMAND"),
    ],
)
def test_a_wrong_command_line_ends_with_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as ended:
        code = ended.code
    output, error = capsys.readouterr()
    assert (code, output) == (2, "")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["serve"], ["migrate"], ["keys"], ["keys", "rotate"], ["version"]])
def test_every_command_explains_itself_with_examples(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "examples:\n  " in capsys.readouterr().out


def test_the_help_of_serve_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    assert [setting.name for setting in SETTINGS if f"--{setting.name}" not in shown] == []


def test_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("regserver 0.")


def test_the_documented_table_is_this_one() -> None:
    """Write it again with `python tools/settings_doc.py`."""
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "settings_doc.py"))
    assert tool["PATH"].read_text("utf-8") == tool["render"]()
