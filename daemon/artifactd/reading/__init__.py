"""What a file's content says to MLflow: params, tags, metric points, a dataset's shape, a model's files.

Pure: bytes, or a stream of them, and the file's own name go in; plain frozen data comes out. MLflow's limits are known
here (each with the name it has in ``mlflow.utils.validation``), MLflow itself, the disk, the ledger and the network are
not. What can be told is told, what cannot is named in a ``Problem``, and a file of which nothing can be told raises
``Unreadable``. Values never stand in an error's text: a ``.env`` file holds secrets.

* ``params``: params and tags of JSON, YAML, TOML and ``KEY=value`` files (``tables``, ``yamltext``, ``tree``).
* ``metrics``: rows of points of CSV and JSON (``columns``, ``objects``, ``lines``, ``moments``, ``points``), and of
  TensorBoard's event files (``events``, ``records``, ``eventproto``).
* ``trainer``: the curves of transformers' Trainer, which many files of a run repeat.
* ``bookmark``: which of a growing file's points are news; ``batches``: requests of a size that MLflow takes.
* ``dataset``: a data file's schema and row count. ``model``: the files that make an ``MLmodel`` whole.
* ``keys``: what MLflow takes for keys and values; ``problems``: what cannot be told, in a sentence.
* ``known``: names by which rooms that read nothing know what is read.
"""
