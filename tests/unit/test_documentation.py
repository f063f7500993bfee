"""The documentation as a site: links that lead somewhere, commands that exist, examples that are quoted as they are."""

import argparse
import functools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from regserver.__main__ import _parser
from regserver.cli.groups import NAMES
from regserver.loading import load

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`(regserver [^`\n]+)`(?!`)")


def build(project: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    done = build(PROJECT, target)
    assert done.returncode == 0, done.stderr
    return target


def test_the_site_has_every_page_and_each_is_in_its_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in PAGES[1:]:
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert (site / name).exists()
        assert f'href="{name}"' in index, f"{name} is not in the navigation"


@pytest.mark.parametrize(
    "line", ["[x](nowhere.md)", "[x](cli.md#no-such-heading)", "[x](../nothing.py)", "[x](/absolute.md)"]
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, line: str) -> None:
    for name in ("docs", "tools"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    shutil.copy(PROJECT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "upgrade.md").open("a") as page:
        page.write(f"\n{line}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "upgrade.md" in done.stderr


class Fetched(HTMLParser):
    """What a browser would fetch to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ("src", "srcset", "poster", "data") if given.get(name)]
        if tag == "link" and "canonical" not in (given.get("rel") or ""):
            self.addresses.append(str(given.get("href")))


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    foreign = []
    for page in site.rglob("*.html"):
        reader = Fetched()
        reader.feed(page.read_text())
        foreign += [(page.name, address) for address in reader.addresses if re.match(r"(?:[a-z]+:)?//", address)]
    for style in site.rglob("*.css"):
        found = re.findall(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^)\"']+)", style.read_text())
        foreign += [(style.name, address) for address in found]
    assert foreign == []


# ---------------------------------------------------------------- commands


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `regserver` wherever a block of shell runs it."""
    for _, language, block in _FENCE.findall(page.read_text()):
        if language in {"sh", "console", "bash"}:
            for line in block.replace("\\\n", " ").splitlines():
                if "regserver" in line:
                    yield from run_by(line.strip().removeprefix("$ "))


def run_by(line: str) -> Iterator[list[str]]:
    line = re.sub(r"\d?>&\d|(?<=\s)\d(?=>)", " ", line)  # 2>&1, 2> log
    lexer = shlex.shlex(line, posix=True, punctuation_chars="<>|&;()")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("<>|&;()"):
            found.append(["a", "file"] if word in {"<", ">", ">>"} else [])
        else:
            found[-1].append(word)
    for words in found:
        while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] in {"sudo", "exec"}):
            words = words[3:] if words[0] == "sudo" else words[1:]  # sudo -u USER
        if words and words[0].rpartition("/")[2] == "regserver" and "…" not in " ".join(words):
            yield [word for word in words[1:] if word != "$since"]  # a script's own, for an option or none


@functools.cache
def whole_parser() -> argparse.ArgumentParser:
    return _parser(NAMES)


ALL_COMMANDS = [(page, line) for page in PAGES for line in commands(page)]


def test_the_pages_have_commands() -> None:
    assert len(ALL_COMMANDS) > 40


@pytest.mark.parametrize(
    ("page", "line"), ALL_COMMANDS, ids=[f"{page.name}: {' '.join(line)}" for page, line in ALL_COMMANDS]
)
def test_a_command_in_a_block_can_be_run_as_it_stands(page: Path, line: list[str]) -> None:
    try:
        whole_parser().parse_args(line)
    except SystemExit as ended:
        assert ended.code == 0, f"{page.name}: regserver {' '.join(line)}"


def parser_of(line: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the command that the words name, and the words left."""
    parser = whole_parser()
    while line:
        below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        if not below or line[0] not in below[0].choices:
            break
        parser, line = below[0].choices[line[0]], line[1:]
    return parser, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    for line in _INLINE.findall(page.read_text()):
        given = line.split()[1:]
        if not re.fullmatch(r"[a-z]+", given[0]):
            continue  # a placeholder
        parser, rest = parser_of(given)
        assert parser.prog != "regserver", f"{page.name}: {line}"
        known = {flag for action in parser._actions for flag in action.option_strings}
        used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{page.name}: {line}"


# ---------------------------------------------------------------- examples


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=lambda example: example.name)
def test_an_example_is_quoted_as_it_is_and_can_be_fetched(example: Path) -> None:
    quoting = [
        page for page in PAGES if any(block == example.read_text() for _, _, block in _FENCE.findall(page.read_text()))
    ]
    assert quoting, f"no page quotes docs/examples/{example.name}, word for word"
    assert any(f"(examples/{example.name})" in page.read_text() for page in quoting)


def test_the_settings_of_the_example_are_settings() -> None:
    settings = load({}, {}, file=str(EXAMPLES / "regserver.toml"))
    assert (settings.public_url, settings.trusted_proxies) == ("https://registry.example.com", ("127.0.0.1/32",))


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 40
