"""Programs for Node with the packages that their package-lock.json pins."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

#: How npm says so.
_UNREACHABLE = re.compile(
    r"code (E5\d\d|EAI_AGAIN|ECONN\w+|ENETUNREACH|ENOTFOUND|ERR_SOCKET\w+|ETIMEDOUT)"
)
_LOCKED = ("package.json", "package-lock.json", ".npmrc")


def node_program(source: Path, folder: Path) -> tuple[str, Path]:
    """Node, and a copy of a program in `folder` beside its packages; a skip where Node is absent.

    The packages are installed once, into the cache directory.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is absent")
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(_installed(npm, source) / "node_modules")
    return node, folder


def _installed(npm: str, source: Path) -> Path:
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in _LOCKED))
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clickpath"
    cached = caches / f"node-{digest.hexdigest()[:12]}"
    if not cached.exists():
        caches.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=caches))
        for name in _LOCKED:
            shutil.copy(source / name, fresh)
        done = subprocess.run([npm, "ci"], cwd=fresh, capture_output=True, text=True, check=False)
        if unreachable := _UNREACHABLE.search(done.stderr):
            shutil.rmtree(fresh)
            pytest.skip(f"npm does not reach its registry: {unreachable[1]}")
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            fresh.rename(cached)
        except OSError:  # another run was faster
            shutil.rmtree(fresh)
    return cached
