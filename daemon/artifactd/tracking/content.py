"""The content type that a store keeps with an object: what a browser, or a store's own console, makes of it.

MLflow (3.17) leaves it to each SDK. S3's and Google's ask Python's ``mimetypes``, which reads the host's own tables, so
that a slim container knows less than a desktop; both take ``table.csv.gz`` for ``text/csv``, and S3's adds
``Content-Encoding: gzip``, upon which clients unpack what was to be downloaded as it is. Azure's says
``application/octet-stream`` of everything. Here the name alone decides, and a packed file is a packed file.
"""

from __future__ import annotations

import os
from functools import cache
from mimetypes import MimeTypes

from artifactd.names import decode_path

UNKNOWN = "application/octet-stream"
"""The type of what is bytes and no more, such as weights."""

# What Python's own table lacks, or has had since some version only.
_TYPES = {
    **dict.fromkeys((".csv",), "text/csv"),
    **dict.fromkeys((".tsv", ".tab"), "text/tab-separated-values"),
    **dict.fromkeys((".jsonl", ".ndjson"), "application/x-ndjson"),
    **dict.fromkeys((".yaml", ".yml"), "application/yaml"),
    **dict.fromkeys((".toml",), "application/toml"),
    **dict.fromkeys((".md", ".markdown"), "text/markdown"),
    **dict.fromkeys((".rst",), "text/x-rst"),
    **dict.fromkeys((".txt", ".text", ".log", ".out", ".err", ".pbtxt", ".hocon"), "text/plain"),
    **dict.fromkeys((".cfg", ".conf", ".cnf", ".cf", ".ini", ".properties", ".env"), "text/plain"),
    **dict.fromkeys((".js", ".mjs"), "text/javascript"),
    **dict.fromkeys((".xml",), "text/xml"),
    **dict.fromkeys((".ipynb",), "application/x-ipynb+json"),
    **dict.fromkeys((".geojson",), "application/geo+json"),
    **dict.fromkeys((".parquet", ".pq"), "application/vnd.apache.parquet"),
    **dict.fromkeys((".arrow", ".feather"), "application/vnd.apache.arrow.file"),
    **dict.fromkeys((".npz", ".keras", ".skops"), "application/zip"),
    **dict.fromkeys((".h5", ".hdf5"), "application/x-hdf5"),
    **dict.fromkeys((".webp",), "image/webp"),
    **dict.fromkeys((".avif",), "image/avif"),
    **dict.fromkeys((".svg",), "image/svg+xml"),
    **dict.fromkeys((".bmp",), "image/bmp"),
    **dict.fromkeys((".wav",), "audio/wav"),
    **dict.fromkeys((".flac",), "audio/flac"),
    **dict.fromkeys((".m4a",), "audio/mp4"),
    **dict.fromkeys((".aac",), "audio/aac"),
    **dict.fromkeys((".ogg", ".opus"), "audio/ogg"),
    **dict.fromkeys((".mkv",), "video/x-matroska"),
    **dict.fromkeys((".gz", ".tgz"), "application/gzip"),
    **dict.fromkeys((".bz2", ".tbz2"), "application/x-bzip2"),
    **dict.fromkeys((".xz", ".txz"), "application/x-xz"),
    **dict.fromkeys((".zst",), "application/zstd"),
    **dict.fromkeys(
        (".pkl", ".pickle", ".joblib", ".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".npy", ".bin"), UNKNOWN
    ),
}
# Files of MLflow's that have no suffix.
_NAMES = {"MLmodel": "application/yaml", "MLproject": "application/yaml"}


def content_type(leaf: str) -> str:
    """The content type of an artifact, by its name.

    Args:
        leaf: The artifact's own name, as it is stored.

    Returns:
        The same on every host, whatever its tables say.
    """
    name = os.fsdecode(decode_path(leaf))
    return _NAMES.get(name) or _known().get(os.path.splitext(name)[1].lower(), UNKNOWN)


@cache
def _known() -> dict[str, str]:
    # An instance of one's own starts from Python's table and has nothing of the host's.
    usual, strict = MimeTypes().types_map
    return {**usual, **strict, **_TYPES}
