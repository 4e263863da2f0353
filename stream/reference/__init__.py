"""Pages and schemas that are written from the code: `python -m stream.reference`.

    tables.py   docs/metrics.md, docs/settings.md, docs/commands.md

What lies in docs/ is what `pages()` gives; a test compares the two.
"""
