"""Clickpath: click events in, a user's path kept, interventions out.

This package is the core and the only one worth importing from outside. It does no I/O and asks no
clock: bytes and times come in as arguments, records go out. Two modules face a person instead,
`cli` and `policy_commands`.
"""

__version__ = "0.1.0"
