"""What goes wrong in practice on a host like this, each finding with what mends it; ``check`` proves that it works.

``finding`` is the data; ``host``, ``journal``, ``disk``, ``state``, ``versions``, ``server``, ``credentials`` and
``stores`` are lists of small functions that give findings, ``checkup`` calls them all, and ``bundle`` writes what came
of it into a file for whoever is to help. Nothing here raises for what is wrong: a check that cannot be made is a
finding.
"""

from artifactd.doctor.checkup import examine, examine_without
from artifactd.doctor.finding import Finding, Level
from artifactd.doctor.surroundings import Surroundings

__all__ = ["Finding", "Level", "Surroundings", "examine", "examine_without"]
