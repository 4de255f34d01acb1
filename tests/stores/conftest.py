"""The servers that the tests of the stores share."""

from __future__ import annotations

from stores.servers import auth_server, direct_server, postgres_server

__all__ = ["auth_server", "direct_server", "postgres_server"]
