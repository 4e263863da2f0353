"""Where an archive lies: a local folder, or any address that fsspec knows.

On a local disk a written file is durable and a move replaces its target in one step. Elsewhere that
holds as far as the store keeps it: object stores show a file when all of it is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from clickpath.errors import FatalError, UsageError


class Place:
    """Files below one address, by their names relative to it.

    Args:
        address: A folder, or an address such as `s3://bucket/folder`.

    Raises:
        UsageError: Nobody knows such an address, or the library for it is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._fs, self._root = url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{address!r} cannot hold an archive: {error}") from error
        self._local = isinstance(self._fs, LocalFileSystem)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        with self._translated():
            try:
                content: bytes = self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def write(self, name: str, content: bytes) -> None:
        """Writes a file; whoever reads it meanwhile may see a part of it."""
        path = self._path(name)
        with self._translated():
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)
            if not self._local:
                self._fs.pipe_file(path, content)
                return
            with open(path, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    def replace(self, name: str, content: bytes) -> None:
        """Writes a file in one step: a reader sees the old content or the new one."""
        if not self._local:
            self.write(name, content)
            return
        self.write(f"{name}.new", content)
        self.move(f"{name}.new", name)

    def move(self, name: str, target: str) -> bool:
        """Moves a file, over what is there; False if there is none of that name (any more)."""
        source, path = self._path(name), self._path(target)
        with self._translated():
            if not self._fs.exists(source):
                return False
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)
            if self._local:
                os.replace(source, path)
                _sync_folder(os.path.dirname(path))
            else:
                self._fs.mv(source, path)
            return True

    def folders(self, name: str) -> list[str]:
        """The names of the folders directly below one."""
        with self._translated():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(name), detail=True)
            except FileNotFoundError:
                return []
            paths = (each["name"].rstrip("/") for each in found if each["type"] == "directory")
            return sorted(path.rpartition("/")[2] for path in paths)

    def files(self, name: str) -> list[str]:
        """The Parquet files below a folder, by their names relative to the address."""
        with self._translated():
            self._fs.invalidate_cache()
            found: list[str] = self._fs.find(self._path(name))
        root = f"{self._root.rstrip('/')}/"
        return sorted(each.removeprefix(root) for each in found if each.endswith(".parquet"))

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with what is in it; one that is gone stays gone."""
        with self._translated():
            try:
                self._fs.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FatalError(f"the archive at {self.address} failed: {error}") from error


def _sync_folder(path: str) -> None:
    """Makes the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
