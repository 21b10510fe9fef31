"""The product's packages, modules and syntax trees, for tests that read code."""

import ast
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES: tuple[str, ...] = tuple(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "root_packages"
    ]
)


BESIDE = ("bench", "deploy")
"""Folders with programs that are no part of the product's packages."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product, by its path under the root."""
    return _modules_in(PACKAGES)


@cache
def modules_beside() -> dict[str, ast.Module]:
    """Every module of the programs beside the product, by its path under the root."""
    return _modules_in(BESIDE)


def _modules_in(folders: tuple[str, ...]) -> dict[str, ast.Module]:
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def rooms() -> set[str]:
    """Every package and subpackage of the product, as a path under the root."""
    return {path.removesuffix("/__init__.py") for path in modules() if path.endswith("/__init__.py")}


@cache
def tracked_texts() -> dict[str, str]:
    """Every text file that git tracks, by its path under the root."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for name in listing.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file():
            try:
                texts[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return texts
