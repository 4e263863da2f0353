"""Pages, schemas and a dashboard that are written from the code: `python -m stream.reference`.

    tables.py      docs/metrics.md, docs/settings.md, docs/commands.md
    asyncapi.py    docs/asyncapi.yaml: all topics
    schemas.py     docs/schemas/: what stands on them
    dashboard.py   helm/clickpath/files/dashboard.json

What lies there is what `pages()` gives; a test compares the two.
"""
