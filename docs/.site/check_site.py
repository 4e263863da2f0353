"""Checks a built site: every link and anchor leads somewhere, and nothing is loaded from elsewhere.

python docs/.site/check_site.py SITE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads by itself, and the attribute that names it.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The links, the loaded files and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps what the tag points to."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        target = given.get(_LOADED.get(tag, ""))
        if target and given.get("rel") != "canonical":
            self.loaded.append(target)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def faults(site: Path) -> Iterator[str]:
    """What is wrong with a site, a sentence each."""
    # The page for a missing page knows the root of its server only.
    paths = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    pages = {path.resolve(): Page(path) for path in paths}
    if not pages:
        yield f"{site} holds no page"
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for target in page.loaded:
            if urlsplit(target).netloc:
                yield f"{where} loads {target} from elsewhere"
        for target in page.links + page.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if to.is_dir():
                to /= "index.html"
            if not to.is_file():
                yield f"{where} leads to {target}, which does not exist"
            elif (
                to in pages and parts.fragment and unquote(parts.fragment) not in pages[to].anchors
            ):
                yield f"{where} leads to {target}, which has no such anchor"


if __name__ == "__main__":
    found = [*faults(Path(sys.argv[1]))]
    print(*found, sep="\n", file=sys.stderr)
    sys.exit(1 if found else 0)
