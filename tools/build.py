"""Build what is handed out: a wheel, and dist/regserver, the registry as one file for local development.

The one file holds Python and every dependency (PyInstaller), so it runs where no Python is. Where this Python cannot
be bundled (it has no shared library), the file is a zip application instead, which needs Python 3.11 on the machine it
runs on; the last line says which of the two it is. Either way the result is started once and asked for an answer.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DIST, BUILD = PROJECT / "dist", PROJECT / "build"
ENTRY = "import sys\n\nfrom regserver.__main__ import main\n\nsys.exit(main())\n"
TOOLS = ("pyinstaller>=6.22", "shiv>=1.0.8")

sys.path.insert(0, str(PROJECT / "tests"))

from support.served import ServeError, serve  # noqa: E402


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(*command: str | Path) -> None:
    """Run quietly; ends the program with the output when the command fails."""
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"`{' '.join(map(str, command))}` failed:\n{done.stdout[-4000:]}")


def build_wheel() -> Path:
    for old in DIST.glob("*.whl"):
        old.unlink()
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", DIST, PROJECT)
    return next(DIST.glob("*.whl"))


def build_environment(wheel: Path) -> Path:
    """A fresh environment with the wheel and nothing of the development tools; its folder of programs."""
    shutil.rmtree(BUILD, ignore_errors=True)
    run(sys.executable, "-m", "venv", BUILD / "venv")
    programs = BUILD / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, *TOOLS)
    return programs


def can_be_bundled() -> bool:
    """Whether PyInstaller can take this Python along: it needs the interpreter as a shared library, and objdump."""
    library = sysconfig.get_config_var("INSTSONAME") or sysconfig.get_config_var("LDLIBRARY") or ""
    folders = [sysconfig.get_config_var("LIBDIR") or "", f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"]
    found = any((Path(folder) / library).exists() for folder in folders if folder)
    return library.endswith((".so", ".so.1.0")) and found and shutil.which("objdump") is not None


def bundle(programs: Path) -> None:
    entry = BUILD / "entry.py"
    entry.write_text(ENTRY)
    collect = ("--collect-submodules", "regserver", "--collect-data", "regserver", "--copy-metadata", "regserver")
    folders = ("--distpath", DIST, "--workpath", BUILD / "work", "--specpath", BUILD)
    run(programs / "pyinstaller", "--onefile", "--name", "regserver", "--log-level", "ERROR", *collect, *folders, entry)


def zip_application(programs: Path, wheel: Path) -> None:
    run(programs / "shiv", "--quiet", "--console-script", "regserver", "--python", "/usr/bin/env python3",
        "--output-file", DIST / "regserver", wheel)  # fmt: skip


def try_it(command: Sequence[str]) -> float:
    """Start the built file with an empty folder, ask it for /v2/; the seconds until it answered."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="regserver-build-") as folder:
        try:
            with serve(Path(folder) / "data", "--dev", command=command) as served:
                seconds = time.monotonic() - began
                status = served.request("GET", "/v2/").status
        except ServeError as error:
            sys.exit(f"what was built does not run: {error}")
    if status != 200:
        sys.exit(f"what was built answers /v2/ with {status}")
    return seconds


def main() -> None:
    DIST.mkdir(exist_ok=True)
    say("building the wheel")
    wheel = build_wheel()
    programs = build_environment(wheel)
    (DIST / "regserver").unlink(missing_ok=True)
    bundled = can_be_bundled()
    say("bundling Python and the dependencies into one file" if bundled else "making a zip application")
    if bundled:
        bundle(programs)
    else:
        zip_application(programs, wheel)
    seconds = try_it([str(DIST / "regserver")])
    megabytes = (DIST / "regserver").stat().st_size / 10**6
    needs = "needs no Python" if bundled else "needs Python 3.11 or newer (this one cannot be bundled)"
    say(f"dist/{wheel.name}")
    say(f"dist/regserver: {megabytes:.0f} MB, {needs}; answered {seconds:.1f} s after its start")


if __name__ == "__main__":
    main()
