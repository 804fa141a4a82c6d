"""The fixtures of `running.py`, which other folders of tests use as well."""

from tests.serving.running import engine, model, serve, server

__all__ = ["engine", "model", "serve", "server"]
