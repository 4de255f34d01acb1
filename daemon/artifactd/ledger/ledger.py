"""The service's side of the ledger: what looks find due, what deliveries report, what runs and targets are up to.

Every method is one or a few statements; the caller groups them into transactions, one a turn of its loop.
"""

from __future__ import annotations

from artifactd.ledger.damage import in_words
from artifactd.ledger.deliveries import Deliveries
from artifactd.ledger.manifests import Manifests
from artifactd.ledger.models import Models
from artifactd.ledger.runs import Runs


@in_words
class Ledger(Deliveries, Models, Runs, Manifests):
    """The whole of it."""
