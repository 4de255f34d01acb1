"""artifactd: MLflow's drop folder.

A service on a training host. Whatever comes to rest in a watched folder ends up as an artifact of the
right MLflow run. docs/architecture.md tells which room does what.
"""

__version__ = "0.1.0"
