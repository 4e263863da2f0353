"""Addresses of files: a path, or one that fsspec understands."""

from __future__ import annotations

from typing import Any

from fsspec.core import url_to_fs

from clickpath.errors import UsageError


def files_at_address(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path there.

    Raises:
        UsageError: Nobody knows such an address, or the library for it is not installed.
    """
    try:
        files, path = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{address!r} cannot be read: {error}") from error
    return files, path
