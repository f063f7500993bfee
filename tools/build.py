"""Build what is handed out: a wheel, and dist/regserver, the registry as one file that needs no Python.

    python tools/build.py                 into dist/
    python tools/build.py --into FOLDER   elsewhere

The one file holds Python and every dependency (PyInstaller; docs/adr/0017-one-file.md says why). It runs where the C
library is as new as here. The result is started once, with nothing in its environment, and asked for an answer.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ENTRY = "import sys\n\nfrom regserver.__main__ import main\n\nsys.exit(main())\n"
BUNDLER = "pyinstaller>=6.22"
# What dependencies could import and the registry never does: every start would unpack it.
LEFT_OUT = (
    "regserver.testing",  # for pytest, which is not there either
    "pytest",
    "aiohttp.pytest_plugin",
    "aiohttp.test_utils",
    "aiohttp.worker",  # gunicorn's
    "pygments",  # rich's, for source code and Markdown
    "markdown_it",
    "zstandard._cffi",  # the second of its two backends
    "zstandard.backend_cffi",
    "setuptools",
    "pip",
    "tkinter",
    "curses",
    "lib2to3",
    "pydoc",
    "doctest",
    "xmlrpc",
)
HINT = "On Debian: apt-get install binutils libpython3-dev (PYTHON=… names another Python)"

sys.path.insert(0, str(PROJECT / "tests"))

from support.served import ServeError, serve  # noqa: E402


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Run quietly; ends the program with the output when the command fails."""
    done = subprocess.run(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"`{' '.join(map(str, command))}` failed:\n{done.stdout[-4000:]}")


def refuse_what_cannot_be_bundled() -> None:
    """PyInstaller takes the interpreter along as a shared library, and needs objdump and strip."""
    library = sysconfig.get_config_var("INSTSONAME") or sysconfig.get_config_var("LDLIBRARY") or ""
    folders = [sysconfig.get_config_var("LIBDIR") or "", f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"]
    if ".so" not in library or not any((Path(folder) / library).exists() for folder in folders if folder):
        sys.exit(f"{sys.executable} has no shared library ({library or 'built without one'}). {HINT}")
    if missing := [tool for tool in ("objdump", "strip") if shutil.which(tool) is None]:
        sys.exit(f"{' and '.join(missing)} not found. {HINT}")


def build_wheel(into: Path) -> Path:
    for old in into.glob("*.whl"):
        old.unlink()
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", into, PROJECT)
    return next(into.glob("*.whl"))


def make_environment(wheel: Path, work: Path) -> Path:
    """A fresh environment with the wheel and nothing of the development tools; its folder of programs."""
    run(sys.executable, "-m", "venv", work / "venv")
    programs = work / "venv" / "bin"
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")
    run(programs / "python", "-m", "pip", "install", *options, wheel, BUNDLER)
    return programs


def bundle(programs: Path, work: Path, into: Path) -> None:
    entry = work / "entry.py"
    entry.write_text(ENTRY)
    collect = ["--collect-submodules", "regserver", "--collect-data", "regserver", "--copy-metadata", "regserver"]
    leave_out = [option for name in LEFT_OUT for option in ("--exclude-module", name)]
    folders = ("--distpath", into, "--workpath", work / "made", "--specpath", work)
    run(
        programs / "pyinstaller", "--onefile", "--strip", "--name", "regserver", "--log-level", "ERROR",
        *collect, *leave_out, *folders, entry,
        environment={"PYTHONHASHSEED": "0", "PYINSTALLER_CONFIG_DIR": str(work / "cache")},
    )  # fmt: skip


def try_it(program: Path) -> float:
    """Start a fresh copy with an empty folder and ask it for /v2/; the seconds until it answered."""
    with tempfile.TemporaryDirectory(prefix="regserver-build-") as folder:
        copy = Path(shutil.copy(program, folder))
        command = ("env", "-i", f"TMPDIR={folder}", str(copy))
        began = time.monotonic()
        try:
            with serve(Path(folder) / "data", "--dev", command=command) as served:
                status = served.request("GET", "/v2/").status
                seconds = time.monotonic() - began
        except ServeError as error:
            sys.exit(f"what was built does not run: {error}")
    if status != 200:
        sys.exit(f"what was built answers /v2/ with {status}")
    return seconds


@contextmanager
def working_folder(into: Path) -> Iterator[Path]:
    """``build`` beside the result; emptied before, removed after."""
    work = into.parent / "build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    yield work
    shutil.rmtree(work)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", metavar="FOLDER", type=Path, default=PROJECT / "dist", help="default: dist")
    into = parser.parse_args(arguments).into.resolve()
    refuse_what_cannot_be_bundled()
    into.mkdir(parents=True, exist_ok=True)
    with working_folder(into) as work:
        say("building the wheel")
        wheel = build_wheel(into)
        say("installing it and its dependencies")
        programs = make_environment(wheel, work)
        say("bundling Python and the dependencies into one file")
        bundle(programs, work, into)
    seconds = try_it(into / "regserver")
    megabytes = (into / "regserver").stat().st_size / 10**6
    say(f"{into / wheel.name}")
    say(f"{into / 'regserver'}: {megabytes:.0f} MB, needs no Python; answered {seconds:.1f} s after its start")


if __name__ == "__main__":
    main()
