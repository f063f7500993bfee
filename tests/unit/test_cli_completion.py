"""Completion as a shell runs it, and the help of every command."""

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from regserver.__main__ import _parser, main
from regserver.cli.groups import GROUPS, NAMES, rows

COMMANDS = [
    (group.name, *([] if row.name == group.name else row.name.split())) for group in GROUPS for row in rows(group)
]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield below
                yield from parsers(below)


def script(shell: str) -> str:
    done = subprocess.run([sys.executable, "-m", "regserver", "completion", shell], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bash(line: str) -> list[str]:
    """What bash offers after these words; a last one that is begun with a dash is completed itself."""
    words = [*line.split(), *([] if line.endswith("-") else ["''"])]
    asked = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_regserver"
    shown = 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc"], input=f"{script('bash')}\n{asked}\n{shown}\n", capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()


def test_bash_completes_words_commands_and_options() -> None:
    assert NAMES | {"serve", "migrate", "keys"} <= set(bash("regserver"))
    assert {"list", "show", "create", "update", "delete", "policy"} <= set(bash("regserver registries"))
    assert {"show", "set", "dry-run"} <= set(bash("regserver registries policy"))
    assert {"--json", "--server", "--token", "--yes"} <= set(bash("regserver tags delete -"))


def test_zsh_is_given_a_script_of_its_own() -> None:
    text = script("zsh")
    assert text.startswith("#compdef regserver\n")
    zsh = shutil.which("zsh")
    if zsh:  # where there is one, it must be able to read it
        assert subprocess.run([zsh, "-n"], input=text, text=True, capture_output=True).stderr == ""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    _, _, examples = capsys.readouterr().out.partition("example")
    assert f"regserver {' '.join(command)}" in examples


def test_every_example_can_be_parsed() -> None:
    for group in GROUPS:
        for row in rows(group):
            for example in (row.example, *row.more):
                line = example.partition(" < ")[0].partition(" > ")[0].removeprefix("source <(").removesuffix(")")
                options = _parser(NAMES).parse_args(shlex.split(line)[1:])
                assert options.run is row.run, example


def test_every_command_stands_in_the_documentation_with_its_example() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    missing = [
        row.example
        for group in GROUPS
        for row in rows(group)
        if f"| `{row.example}` | {row.summary} |" not in documented
    ]
    assert missing == []


def test_a_command_that_is_not_used_is_not_imported() -> None:
    """The server starts without the client: its tables and completion are nothing to it."""
    heavy = ("regserver.cli.", "rich", "shtab", "urllib.request")
    probe = (
        "import sys; from regserver.__main__ import main; main(['version']); "
        f"print(*[name for name in sys.modules if name.startswith({heavy})])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[1].split())
    assert loaded == {f"regserver.cli.{name}" for name in ("exits", "groups", "parsing", "words")}
