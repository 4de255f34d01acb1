"""What transformers' Trainer leaves of its curves, under the names that its own ``MLflowCallback`` gives them.

``trainer_state.json`` lies in each checkpoint, and beside them if the script saves it, and holds all that was logged
until then (``log_history``): each record with its step. ``train_results.json`` and its like repeat the last values,
without a step: that is looked for in the states. So many files of one run say the same: `lacking` gives what the run
does not hold yet, whichever comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from artifactd.reading.bookmark import mark_of, short_of
from artifactd.reading.keys import fit, shown, why_unfit
from artifactd.reading.known import RESULTS
from artifactd.reading.moments import step_of
from artifactd.reading.objects import MAX_DOCUMENT_BYTES, document, flat
from artifactd.reading.points import Point
from artifactd.reading.problems import WHOLE, Problem, Unreadable

STATE_NAME = b"trainer_state.json"
EPOCH = "epoch"
"""What both have, and by which a record without a step finds its own: the Trainer adds it to all that it logs."""

# As in transformers.integrations.integration_utils.MLflowCallback.on_log (5.23).
_REPLACED = re.compile(r"[^0-9A-Za-z_\-. :/]")


@dataclass(frozen=True, slots=True)
class Record:
    """What was logged at one moment.

    Attributes:
        step: Optimizer steps until then; None if the file does not say.
        values: By key, fit for MLflow; in the file's order.
    """

    step: int | None
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Logged:
    """What one file says.

    Attributes:
        records: In the file's order.
        problems: What in it cannot be told; a key is named once.
    """

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def keys(self) -> set[str]:
        """Those whose history has to be known to say what of it a run lacks."""
        lost = {EPOCH} if any(record.step is None for record in self.records) else set()
        return lost.union(*(record.values for record in self.records))


def read_trainer(data: bytes, role: str) -> Logged:
    """Read a file of the Trainer's.

    Args:
        data: All of it; one byte more than `MAX_DOCUMENT_BYTES` is enough to know that it is too long.
        role: `STATE` or `RESULTS`.

    Returns:
        Its numbers; truth values, text and lists say nothing. Of a file that ends before its object does, nothing: a
        killed training leaves one, and what it would say stands in the next.

    Raises:
        Unreadable: It is no such file.
    """
    found = _object(data)
    if found is None:
        return Logged()
    problems: dict[str, Problem] = {}
    if role == RESULTS:
        record = _record(step_of(found.get("step")), flat("", found, 0), problems)
        if not record.values and not problems:
            raise Unreadable(WHOLE, "it holds no number to tell", "Write numbers under names")
        return Logged((record,), tuple(problems.values()))
    return Logged(_history(found, problems), tuple(problems.values()))


def _object(data: bytes) -> dict[str, object] | None:
    """The object that a file is; None if it ends before it does."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Unreadable(WHOLE, f"it is longer than {MAX_DOCUMENT_BYTES // 1024**2} MiB", "Log less often")
    text = data.strip()
    if not text or (text.startswith(b"{") and not text.endswith(b"}")):
        return None
    found = document(data)
    if not isinstance(found, dict):
        raise Unreadable(WHOLE, "it is no JSON object")
    return found


def _history(found: dict[str, object], problems: dict[str, Problem]) -> tuple[Record, ...]:
    history = found.get("log_history")
    if not isinstance(history, list):
        raise Unreadable(WHOLE, "it has no log_history, as the Trainer's state has")
    items = [item for item in history if isinstance(item, dict)]
    return tuple(_record(step_of(item.get("step")), item.items(), problems) for item in items)


def _record(step: int | None, pairs: Iterable[tuple[str, object]], problems: dict[str, Problem]) -> Record:
    values: dict[str, float] = {}
    for raw, value in pairs:
        if isinstance(value, Problem):
            problems.setdefault(raw, value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and not (raw == "step" and step == value):
            key = fit(_REPLACED.sub("_", raw))
            reason = why_unfit(key)
            try:
                number = float(value)
            except OverflowError:
                number, reason = 0.0, "its number is beyond what MLflow can hold"
            if reason:
                problems.setdefault(raw, Problem(shown(raw), reason))
            else:
                values[key] = number
    return Record(step, values)


def steps_of(data: bytes) -> tuple[Record, ...]:
    """Read a state for the steps that it knows, and for nothing that is to be told.

    Args:
        data: As for `read_trainer`.

    Returns:
        Its records, and the step and epoch at which it was saved; nothing if it is no state.
    """
    try:
        found = _object(data)
        records = () if found is None else _history(found, {})
    except Unreadable:
        return ()
    if found is None:
        return ()
    return (*records, _record(step_of(found.get("global_step")), [(EPOCH, found.get(EPOCH))], {}))


def lacking(
    records: Iterable[Record], history: Iterable[tuple[str, int, float]], beside: Iterable[Record] = ()
) -> Iterator[Point]:
    """Find what a run does not hold of a file that repeats others.

    Args:
        records: The file's.
        history: Key, step and value of each point that the run holds of the keys in them, and of `EPOCH`, whoever told
            them; in any order, as MLflow gives them back.
        beside: What the states beside the file say, told or not (`steps_of`).

    Returns:
        The points to tell, each once however often it stands there. Of a record without a step, those whose value the
        run holds at no step at all; their step is the last at which a state has that value, else the last of the same
        epoch, else 0.
    """
    held: set[int] = set()
    anywhere: set[int] = set()
    at: dict[int, int] = {}
    epochs: dict[float, int] = {}
    for key, step, value in history:
        held.add(_short(key, step, value))
        anywhere.add(_short(key, 0, value))
        if key == EPOCH:
            epochs[value] = max(step, epochs.get(value, step))
    for record in beside:
        if (saved := record.step) is None:
            continue
        at.update({_short(key, 0, value): saved for key, value in record.values.items()})
        if (epoch := record.values.get(EPOCH)) is not None:
            epochs[epoch] = max(saved, epochs.get(epoch, saved))
    for record in records:
        last = epochs.get(record.values[EPOCH], 0) if EPOCH in record.values else 0
        for key, value in record.values.items():
            stepless = _short(key, 0, value)
            if record.step is None and stepless in anywhere:
                continue
            step = at.get(stepless, last) if record.step is None else record.step
            mark = _short(key, step, value)
            if mark not in held:
                held.add(mark)
                yield Point(key, value, step)


def _short(key: str, step: int, value: float) -> int:
    return short_of(mark_of(Point(key, value, step)))
