"""The page of a report: HTML by itself, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

_STYLE: Final = """
:root { --ink: #22262b; --faint: #c9ced4; --paper: #fcfcfa; --first: #1f6f78; --second: #c0703a;
  --soft: #f1f2ee; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #d9dcdf; --faint: #4a5058; --paper: #17191c;
  --first: #5fb3bb; --second: #dd9a66; --soft: #1f2226; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 58rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 40rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font-family: inherit !important; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { text-align: right; padding: .28rem .6rem; border-bottom: 1px solid var(--faint);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { font-weight: 600; }
tr.model td { background: var(--soft); font-weight: 600; }
.ends { display: block; font-weight: 400; font-size: .75rem; opacity: .75; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .9rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
.path { display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0 1.2rem; padding: 0; }
.path li { list-style: none; padding: .15rem .5rem; border-radius: .3rem; font-size: .85rem;
  border: 1px solid var(--faint); }
footer { margin-top: 3rem; font-size: .85rem; opacity: .8; }
"""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        title: Its heading.
        words: What a reader should look at.
        body: HTML.
    """

    title: str
    words: str
    body: str


def page(title: str, words: str, sections: Iterable[Section]) -> str:
    """The whole page."""
    body = "".join(
        f"<section><h2>{escape(of.title)}</h2><p>{escape(of.words)}</p>{of.body}</section>\n"
        for of in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1><p>{escape(words)}</p></header>\n{body}</body>\n</html>\n"
    )


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        name: Whose figures they are.
        cells: What stands there.
        ends: Below each cell, the interval; empty for none.
    """

    name: str
    cells: Sequence[str]
    ends: Sequence[str] = ()


def table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """A table; the row called model stands out."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *columns))
    lines = []
    for row in rows:
        ends = row.ends or [""] * len(row.cells)
        cells = "".join(
            f"<td>{escape(cell)}"
            + (f'<span class="ends">{escape(end)}</span>' if end else "")
            + "</td>"
            for cell, end in zip(row.cells, ends, strict=True)
        )
        kind = ' class="model"' if row.name == "model" else ""
        lines.append(f"<tr{kind}><td>{escape(row.name)}</td>{cells}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for."""
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in pairs)
    return f"<dl>{''.join(lines)}</dl>"


def path(steps: Sequence[str], shares: Sequence[float]) -> str:
    """The steps of a path, coloured by what they do to a probability: for it, or against it."""
    most = max(map(abs, shares)) or 1.0
    items = []
    for step, share in zip(steps, shares, strict=True):
        color = "--first" if share > 0 else "--second"
        percent = round(60 * abs(share) / most)
        items.append(
            f'<li style="background: color-mix(in srgb, var({color}) {percent}%, transparent)" '
            f'title="{share:+.2f}">{escape(step)}</li>'
        )
    return f'<ul class="path">{"".join(items)}</ul>'
