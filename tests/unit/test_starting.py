"""A start that leaves out what serves nobody, and leaves nothing of that behind."""

import gc
import ssl
import subprocess
import sys

import pytest

from regserver.starting import swift_imports


def test_inside_no_garbage_is_collected_and_no_certificate_read_and_afterwards_both_are() -> None:
    load = ssl.SSLContext.load_default_certs
    with pytest.raises(ImportError), swift_imports():
        assert not gc.isenabled()
        context = ssl.create_default_context()
        assert context.cert_store_stats()["x509_ca"] == 0
        raise ImportError
    gc.unfreeze()
    assert gc.isenabled()
    assert ssl.SSLContext.load_default_certs is load
    assert context.verify_mode is ssl.CERT_REQUIRED, "what would be a client trusts nobody, instead of everybody"


def test_a_server_imports_neither_commands_nor_what_only_tokens_and_backups_need() -> None:
    code = "import regserver.serving, sys; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    late = {"jwt", "cryptography", "rich", "shtab", "asyncpg", "regserver.cli", "regserver.upkeep"}
    assert late.intersection(modules) == set()
