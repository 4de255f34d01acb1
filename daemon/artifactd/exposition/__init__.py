"""What a running service tells whoever asks over HTTP: metrics, and whether it lives and is ready.

``exposition`` is what the service holds, ``families`` makes Prometheus' metrics of the ledger and of what the process
counts, ``listener`` is the one thread that answers. The last two are imported once somebody wants to be answered.
"""

from artifactd.exposition.exposition import Exposition

__all__ = ["Exposition"]
