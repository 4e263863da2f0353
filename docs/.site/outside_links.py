"""Links from a page to a file of the repository outside of docs/, which the site does not hold.

On a code host they lead there; on the site they become the file's path. A path that does not exist
is a warning, and so an error in a strict build.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

logger = logging.getLogger("mkdocs.hooks.outside_links")

_LINK = re.compile(r"\[([^\]\n]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replaces the links; mkdocs calls it for each page."""
    root = Path(config.config_file_path).parent

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", page.file.src_uri, "..", link[2]))
        if path.startswith("docs/"):
            return link[0]
        if not (root / path).exists():
            logger.warning("%s links to %s, which does not exist", page.file.src_uri, path)
        return f"`{path}`" if link[1] in (path, "more") else f"{link[1]} (`{path}`)"

    return _LINK.sub(replaced, markdown)
