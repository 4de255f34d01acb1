"""Big files in parts to Azure, by addresses that the server signs: not where the parts' ids have several lengths.

Azure takes no block whose id is longer or shorter than that of another block of the same blob. MLflow's server (3.17)
calls them ``mlflow_block_9`` and ``mlflow_block_10``: each file of ten parts and more fails there, and the blocks that
were taken until then spoil the next tries for a week. What is sent whole, through the server, arrives.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qs, urlsplit

from artifactd.tracking import tether


def refuse_uneven(repo: Any) -> None:
    """Have a repository of MLflow's for ``mlflow-artifacts:`` send a file whole where its parts could not be joined.

    Args:
        repo: Changed in place: it asks for the parts' addresses as before, and looks at them before it sends any.
    """
    from mlflow.exceptions import _UnsupportedMultipartUploadException  # noqa: PLC0415  (MLflow is slow to import)

    create = repo.create_multipart_upload

    def create_even(*args: Any, **kwargs: Any) -> Any:
        made = create(*args, **kwargs)
        if len({_length(credential.url) for credential in made.credentials}) > 1:
            raise _UnsupportedMultipartUploadException  # MLflow takes the other way then
        return made

    repo.create_multipart_upload = create_even


def tell_parts(repo: Any) -> None:
    """Have a repository of MLflow's for ``mlflow-artifacts:`` tell ``tether`` of each part that it has sent.

    Args:
        repo: Changed in place.
    """
    upload_part = repo._upload_part

    def upload(*, size: int, **call: Any) -> Any:
        part = upload_part(size=size, **call)
        tether.sent(size)
        return part

    repo._upload_part = upload


def _length(url: str) -> int:
    """Bytes of the block's id in an address of Azure's; 0 where there is none."""
    encoded = parse_qs(urlsplit(url).query).get("blockid", [""])[0]
    try:
        return len(base64.b64decode(encoded))
    except binascii.Error:
        return len(encoded)
