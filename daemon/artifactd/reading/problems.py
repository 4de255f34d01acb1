"""Why something in a file cannot be told to MLflow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that cannot be told while the rest of its file can.

    Attributes:
        place: Where it stands: ``line 3``, or ``'optimizer.lr'``.
        reason: What is wrong, without the value.
        cure: What the file's author can do; empty if that is plain.
    """

    place: str
    reason: str
    cure: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.reason}"
        return f"{text}. {self.cure}" if self.cure else text


class Unreadable(ValueError):  # noqa: N818
    """A file of which nothing more can be told; the text is one line for people.

    Attributes:
        place: Where reading stopped: ``line 3``, or ``the file`` for all of it.
        reason: What is wrong, without any value.
        cure: What the file's author can do; empty if that is plain.
    """

    def __init__(self, place: str, reason: str, cure: str = "") -> None:
        self.problem = Problem(place, reason, cure)
        super().__init__(str(self.problem))

    @property
    def place(self) -> str:
        """Where reading stopped."""
        return self.problem.place

    @property
    def reason(self) -> str:
        """What is wrong."""
        return self.problem.reason

    @property
    def cure(self) -> str:
        """What to do."""
        return self.problem.cure


WHOLE = "the file"
"""The place of what is wrong with all of it."""


def text_of(data: bytes) -> str:
    """Decode a whole file.

    Args:
        data: UTF-8, with or without a byte order mark, which some editors write.

    Raises:
        Unreadable: It is not UTF-8; names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"line {line}", f"byte {error.start} is not UTF-8", "Save the file as UTF-8") from None
