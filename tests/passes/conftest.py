"""The passes run over the same tiny variants as the engine's tests."""

from tests.backends.local.conftest import _few_threads, trio

__all__ = ["_few_threads", "trio"]
