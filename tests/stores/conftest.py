"""The servers that the tests of the stores share."""

from __future__ import annotations

from stores.servers import auth_server, direct_server, postgres_server
from stores.serving import certificate

__all__ = ["auth_server", "certificate", "direct_server", "postgres_server"]
