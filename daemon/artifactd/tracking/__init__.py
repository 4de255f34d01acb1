"""All that artifactd knows of MLflow, and the only room that imports it, lazily.

``environment`` prepares the process before MLflow is imported, ``server`` makes first contact, ``runs`` finds,
creates and ends runs, ``artifacts`` uploads, lists and downloads, ``classify`` turns what went wrong into a
``Failure``.
"""
