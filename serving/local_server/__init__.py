"""A real tritonserver on this machine, for development and tests; never for production.

The package `nvidia-pytriton` ships the program with its Python backend. It is an old release with
known holes, so it listens on the loopback only. It has a virtual environment of its own, because
it pins what ours must not be held to.
"""
