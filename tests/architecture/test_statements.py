"""Every SQL statement lives in the catalog under a name, is in the dialect of both engines, and finds an index."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import regserver
from regserver.storage.sql.migrate import load, statements
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.statements import PLACEHOLDER, STATEMENTS, is_statement

PACKAGE = Path(regserver.__file__).parent
CATALOG = sorted(PACKAGE.joinpath("storage/catalog").glob("*.py"))

# Ways of SQLite that PostgreSQL does not have, or that the port forbids.
_FOREIGN = re.compile(
    r"\b(rowid|insert\s+or|replace\s+into|json_each|datetime\s*\(|strftime|ifnull|glob|pragma|collate|true|false)\b|\?|==",
    re.IGNORECASE,
)

# Statements that may walk a table or an index of it, "module.NAME: table", and why that is bounded.
WALKS = {
    "api_tokens._COUNT: api_tokens": "counts an index of tokens, which administrators made one by one",
    "api_tokens._PAGE: api_tokens": "stops at LIMIT, in the order of the key",
    "audit.OLDEST: audit": "stops at LIMIT, in the order of the key",
    "garbage.BATCH: trash": "stops at LIMIT, in the order of the folders",
    "events.LAST: events": "stops at LIMIT, in the order of the key",
    "events.OLDEST: events": "stops at LIMIT, in the order of the key",
    "figures._BLOBS: blobs": "five minutes apart at least, off the loop, for the metrics",
    "figures._FIGURES: registries": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: repositories": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: uploads": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: blob_leases": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: manifest_leases": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: trash": "ten seconds apart at least, off the loop, for the metrics",
    "registries._PAGES: registries": "a filter looks into every tenant's name, and the total counts those it finds",
    "scrub.ANY_ROTTEN: blobs": "an index of nothing but what has rotted",
    "scrub.ANY_ROTTEN: manifests": "an index of nothing but what has rotted",
    "scrub.DAMAGE: blobs": "an index of nothing but what has rotted",
    "scrub.DAMAGE: manifests": "an index of nothing but what has rotted",
    "scrub.ROTTEN_BLOBS: blobs": "an index of nothing but what has rotted",
    "scrub.ROTTEN_MANIFESTS: manifests": "an index of nothing but what has rotted",
    "scrub.TOTAL: blobs": "once in a pass, off the loop, to say how far it is",
    "garbage.BATCH: trash_holds": "a row per backup that runs now",
    "garbage.WAITING: trash_holds": "a row per backup that runs now",
    "holds._EXPIRE: trash_holds": "a row per backup that runs now",
    "saved._NEWEST: audit": "stops at LIMIT, in the order of the key",
}


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every string that is no docstring, the pieces of f-strings included."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node


@pytest.fixture(scope="module")
def schema() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in load():
        for statement in statements(migration.text, SQLiteDatabase.templates):
            connection.execute(statement)
    yield connection
    connection.close()


def explain(schema: sqlite3.Connection, how: str, sql: str) -> list[str]:
    """The last column of an explanation, with NULL for each placeholder."""
    arguments = dict.fromkeys(PLACEHOLDER.findall(sql))
    return [str(row[-1]) for row in schema.execute(f"{how} {sql}", arguments)]


def test_statements_live_in_the_catalog_and_in_the_engines_and_nowhere_else() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}: {str(node.value).strip()[:60]}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not file.is_relative_to(PACKAGE / "storage/catalog") and not file.is_relative_to(PACKAGE / "storage/sql")
        for node in strings(ast.parse(file.read_text()))
        if is_statement(str(node.value))
    ]
    assert found == []


@pytest.mark.parametrize("file", CATALOG, ids=lambda file: file.stem)
def test_each_statement_of_the_catalog_has_a_name(file: Path) -> None:
    tree = ast.parse(file.read_text())
    named = {
        id(constant)
        for node in tree.body
        if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets)
        for constant in ast.walk(node)
    }
    nameless = [node.lineno for node in strings(tree) if is_statement(str(node.value)) and id(node) not in named]
    assert nameless == [], f"{file.name}: statements at these lines are no constants of their module"


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_statement_is_accepted_by_the_migrated_schema(schema: sqlite3.Connection, name: str) -> None:
    assert explain(schema, "EXPLAIN", STATEMENTS[name])


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_statement_is_in_the_dialect_of_both_engines(name: str) -> None:
    text = re.sub(r"'[^']*'|--[^\n]*", "", STATEMENTS[name])
    assert [match[0] for match in _FOREIGN.finditer(text)] == []
    numbers = {int(number) for number in PLACEHOLDER.findall(text)}
    assert numbers == set(range(1, len(numbers) + 1)), "placeholders are numbered without a gap"


def calls() -> Iterator[tuple[str, str, int]]:
    """(place, statement's name, number of arguments) of each call whose arguments can be counted."""
    for file in CATALOG:
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in {"fetch", "execute"} or any(isinstance(arg, ast.Starred) for arg in node.args):
                continue
            if isinstance(node.args[0], ast.Name):
                yield f"{file.name}:{node.lineno}", f"{file.stem}.{node.args[0].id}", len(node.args) - 1


def test_a_statement_is_given_as_many_arguments_as_it_has_placeholders() -> None:
    """SQLite ignores an argument too many; PostgreSQL does not."""
    counted = [(place, name, given) for place, name, given in calls() if name in STATEMENTS]
    wrong = [
        f"{place}: {name} takes {needed}, is given {given}"
        for place, name, given in counted
        if (needed := len(set(PLACEHOLDER.findall(STATEMENTS[name])))) != given
    ]
    assert counted
    assert wrong == []


def walked_tables(schema: sqlite3.Connection, sql: str) -> set[str]:
    """Tables that a statement goes through from end to end, by the table or by an index."""
    tables = {row[0] for row in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    aliases = {table: table for table in tables}
    named = re.findall(r"(?:\bFROM|\bJOIN|\bUPDATE|,)\s+(\w+)(?:\s+AS)?\s+(\w+)", sql)
    aliases |= {alias: table for table, alias in named if table in tables}
    steps = (re.match(r"SCAN (\w+)", step) for step in explain(schema, "EXPLAIN QUERY PLAN", sql))
    return {aliases[step[1]] for step in steps if step and step[1] in aliases}


def test_no_statement_walks_a_whole_table_without_a_reason(schema: sqlite3.Connection) -> None:
    walks = {
        f"{name.split('[')[0]}: {table}" for name, sql in STATEMENTS.items() for table in walked_tables(schema, sql)
    }
    assert walks - set(WALKS) == set(), "add an index, or a reason to WALKS"
    assert set(WALKS) - walks == set(), "these reasons are not needed any more"


def test_every_foreign_key_is_checked_by_an_index(schema: sqlite3.Connection) -> None:
    """Else deleting one row of the parent walks the whole child, which no query plan shows."""
    tables = [row[0] for row in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    bare = [
        f"{table} {sorted(columns)}"
        for table in tables
        for columns in foreign_keys(schema, table)
        if not any(set(index[: len(columns)]) == columns for index in indexes(schema, table))
    ]
    assert bare == []


def foreign_keys(schema: sqlite3.Connection, table: str) -> list[set[str]]:
    """The referring columns of each of the table's foreign keys."""
    keys: dict[int, set[str]] = {}
    for row in schema.execute(f"PRAGMA foreign_key_list({table})"):
        keys.setdefault(row[0], set()).add(row[3])
    return list(keys.values())


def indexes(schema: sqlite3.Connection, table: str) -> list[list[str]]:
    """The columns of each index over the whole table, the primary key's included."""
    whole = [row[1] for row in schema.execute(f"PRAGMA index_list({table})") if not row[4]]
    return [[row[2] for row in schema.execute(f"PRAGMA index_info({name})")] for name in whole]
