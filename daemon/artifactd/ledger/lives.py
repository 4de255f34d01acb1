"""How runs live and end: what their folders say, what was seen of them, and what the server is to be told.

Level-triggered: a status follows from what stands in the rows, whenever it is asked for. What the server was asked for
last is written down before it is asked, so that after a crash nobody takes its status for somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass

from artifactd.ledger.base import Base
from artifactd.ledger.damage import blob
from artifactd.ledger.rows import END_REFUSED, Growth, State
from artifactd.ledger.schema import OPEN
from artifactd.runfolder import ENDS, End

_ENDED = "('FINISHED', 'FAILED', 'KILLED')"
_MAY_END = "(r.identity NOT LIKE 'run:%' OR l.may_end)"
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True)
class Life:
    """What a run folder says of its run's life.

    Attributes:
        began: When it began, milliseconds since 1970; the first word of it counts.
        parent: The row of the run that it is nested in.
        nests: Other runs may be nested in it.
        may_end: A run that is adopted is ended all the same.
        marker: The status that its markers give it; "" without any.
        marked_at: Since when, milliseconds since 1970.
        reason: Why it failed.
        signs: Further signs of life to look for, as the folder's JSON; "" for none.
    """

    began: int | None = None
    parent: int | None = None
    nests: bool = False
    may_end: bool = False
    marker: str = ""
    marked_at: int | None = None
    reason: str = ""
    signs: str = ""


@dataclass(frozen=True, slots=True)
class Quiet:
    """A run of which a sign of life is looked for.

    Attributes:
        run: Its row.
        folder: Its folder, relative to the root.
        status: RUNNING or KILLED.
        moved_at: The last sign of life, unix seconds; None when none was looked for yet.
        signs: As in ``Life``.
    """

    run: int
    folder: bytes
    status: str
    moved_at: float | None
    signs: str


class Lives(Base):
    """The side of the ledger that knows whether runs live."""

    # -- what looks say ------------------------------------------------------------------------------------------

    def note_life(self, run: int, life: Life) -> None:
        """Take down what a run folder says; writes nothing where it is known."""
        said = (life.parent, life.nests, life.may_end, life.marker, life.marked_at, life.reason, life.signs)
        old = self._con.execute(
            "SELECT parent, nests, may_end, marker, marked_at, reason, signs FROM lives WHERE run = ?", (run,)
        ).fetchone()
        if old == said:
            return
        self._con.execute(
            "INSERT INTO lives (run, began, parent, nests, may_end, marker, marked_at, reason, signs)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run) DO UPDATE SET parent = excluded.parent,"
            " nests = excluded.nests, may_end = excluded.may_end, marker = excluded.marker,"
            " marked_at = excluded.marked_at, reason = excluded.reason, signs = excluded.signs,"
            " want = CASE WHEN excluded.marker = '' THEN want ELSE '' END",
            (run, life.began, *said),
        )
        if old is not None and old[0] != life.parent:  # it is nested elsewhere by the rules of now
            self._con.execute("UPDATE runs SET applied = '' WHERE id = ? AND run_id IS NOT NULL", (run,))
        if old is not None and old[3] and not life.marker:
            # What has changed while the marker stood is a change after the end as well.
            self._con.execute("UPDATE lives SET moved_at = NULL WHERE run = ?", (run,))
            self.note_change(run, self.newest(run), "a file changed")

    def note_change(self, run: int, at: float, what: str, *, fleet: bool = False) -> None:
        """A sign of life was seen; one that is newer than all before opens what artifactd has ended, without a marker.

        Args:
            run: The run's row; the run that it is nested in lives as well.
            at: When the sign was made, unix seconds.
            what: What it was, for people.
            fleet: Other hosts end the run, too: it is not reopened.
        """
        newer = "? > coalesce(moved_at, 0)"
        self._con.execute(
            "UPDATE lives SET want = CASE"
            f" WHEN marker = '' AND NOT ? AND asked IN {_ENDED} AND (ours OR NOT answered OR asked = 'KILLED')"
            f" AND ? * 1000 > coalesce(asked_at, {_NEVER}) THEN 'RUNNING'"
            " WHEN want = 'KILLED' AND asked != 'KILLED' THEN '' ELSE want END,"
            f" moved_at = ?, seen = ? WHERE run IN (?, (SELECT parent FROM lives WHERE run = ?)) AND {newer}",
            (fleet, at, at, what, run, run, at),
        )

    def newest(self, run: int) -> float:
        """When the files at and below a run's folder changed last, unix seconds; 0 when none is known."""
        row = self._con.execute("SELECT root, folder FROM runs WHERE id = ?", (run,)).fetchone()
        root, folder = int(row[0]), blob(row[1])
        low, high = (folder + b"/", folder + b"0") if folder else (b"", b"\xff" * 8)  # '0' is the byte after '/'
        (at,) = self._con.execute(
            "SELECT max(f.ctime_ns) FROM folders d JOIN files f ON f.folder = d.id"
            " WHERE d.root = ? AND (d.rel = ? OR d.rel > ? AND d.rel < ?)",
            (root, folder, low, high),
        ).fetchone()
        return (at or 0) / 1e9

    # -- abandoned -----------------------------------------------------------------------------------------------

    def quiet(self, root: int, before: float, *, nested: bool) -> list[Quiet]:
        """Runs under way of which nothing was seen since `before` (unix seconds), or that name further signs of life.

        A run that its folder's markers end, and one that is adopted, is not among them. `nested` says whether those
        within another run are meant, or the others.
        """
        rows = self._con.execute(
            "SELECT r.id, r.folder, r.status, l.moved_at, l.signs FROM runs r JOIN lives l ON l.run = r.id"
            " WHERE r.root = ? AND r.status = 'RUNNING' AND r.run_id IS NOT NULL AND l.marker = ''"
            f" AND l.want != 'KILLED' AND {_MAY_END} AND (l.moved_at IS NULL OR l.moved_at <= ? OR l.signs != '')"
            " AND (l.parent IS NOT NULL) = ?",
            (root, before, nested),
        )
        return [Quiet(r[0], blob(r[1]), *r[2:]) for r in rows.fetchall()]

    def not_in_future(self, now: float) -> None:
        """No sign of life is newer than `now` (unix seconds): where one is, the clock was set back since."""
        self._con.execute("UPDATE lives SET moved_at = ? WHERE moved_at > ?", (now, now))

    def under_way(self, root: int) -> list[tuple[int, bytes]]:
        """Runs under way of a root: row and folder."""
        rows = self._con.execute("SELECT id, folder FROM runs WHERE root = ? AND status = 'RUNNING'", (root,))
        return [(int(run), blob(folder)) for run, folder in rows.fetchall()]

    def abandoned(self, root: int) -> list[Quiet]:
        """Runs that were given up and name signs of life by which they may come back."""
        rows = self._con.execute(
            "SELECT r.id, r.folder, r.status, l.moved_at, l.signs FROM runs r JOIN lives l ON l.run = r.id"
            " WHERE r.root = ? AND r.status = 'KILLED' AND l.asked = 'KILLED' AND l.signs != '' AND l.marker = ''",
            (root,),
        )
        return [Quiet(r[0], blob(r[1]), *r[2:]) for r in rows.fetchall()]

    def abandon(self, run: int, at: float, reason: str) -> None:
        """Nothing of the run lives: it is KILLED once nothing of it is due; `at` (unix seconds) is its last sign."""
        self._con.execute(
            "UPDATE lives SET want = 'KILLED', moved_at = ?, why = ? WHERE run = ? AND marker = ''",
            (at, reason, run),
        )

    # -- what the server is told ---------------------------------------------------------------------------------

    def ask_end(self, run: int, end: End) -> None:
        """The server is about to be asked for this status; durable before it is."""
        self._con.execute(
            "INSERT INTO lives (run, asked, asked_at, answered) VALUES (?, ?, ?, 0) ON CONFLICT (run) DO UPDATE SET"
            f" earlier = CASE WHEN asked IN {_ENDED} AND asked != excluded.asked AND (ours OR NOT answered)"
            " THEN asked ELSE earlier END, asked = excluded.asked, asked_at = excluded.asked_at, answered = 0",
            (run, end.status, end.at),
        )

    def end_told(self, run: int, status: str) -> None:
        """The server's answer: the status that the run has. Another one than was asked for is somebody else's."""
        self._con.execute(
            "UPDATE lives SET answered = 1, earlier = '', ours = (asked = ?),"
            " want = CASE WHEN asked = 'RUNNING' AND asked != ? THEN '' ELSE want END,"
            " asked = CASE WHEN asked = 'RUNNING' THEN ? ELSE asked END WHERE run = ?",
            (status, status, status, run),
        )

    def _found_so(self, run: int, status: str, *, other: bool, fleet: bool) -> None:
        """The server was asked for the run: `other` says that it is another one than before."""
        if other:
            self._con.execute(
                "UPDATE lives SET asked = '', want = '', earlier = '', answered = 1, ours = 0 WHERE run = ?", (run,)
            )
            self._con.execute(
                "UPDATE runs SET applied = ''"
                " WHERE run_id IS NOT NULL AND id IN (SELECT run FROM lives WHERE parent = ?)",
                (run,),
            )
        if fleet:
            return
        if status not in ENDS:  # whatever was asked for: it is open
            self._con.execute(
                f"UPDATE lives SET asked = '', answered = 1, ours = 0 WHERE run = ? AND asked IN {_ENDED}", (run,)
            )
            return
        # Perhaps it was this host that gave it up, and the ledger was lost: the server's tags and times know.
        self._con.execute(
            "UPDATE lives SET asked = ?, answered = 1, ours = 0,"
            " want = CASE WHEN ? = 'KILLED' AND moved_at IS NOT NULL THEN 'RUNNING' ELSE want END"
            " WHERE run = ? AND asked = ''",
            (status, status, run),
        )

    def _open_ends(self, markers: dict[bytes, str]) -> dict[int, End]:
        """What the server is to be told, by the run's row."""
        marks = ", ".join("?" * len(markers))
        nothing = " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.run = r.id AND o.state = {})"
        candidates = (
            " WHERE r.id IN (SELECT id FROM runs WHERE status = 'RUNNING' UNION ALL SELECT run FROM lives"
            f" WHERE {OPEN}) AND r.run_id IS NOT NULL AND r.status != ?"
        )
        before = f"CASE WHEN asked IN {_ENDED} AND (ours OR NOT answered) THEN asked ELSE l.earlier END"
        # A checkpoint's marker that is held back is no life: what it waits for may have failed, or be gone for good.
        waits = f"{State.DUE:d} AND o.growth != {Growth.HELD:d}"
        ends: dict[int, End] = {}
        for run, name, marker, at, reason, asked, status, answered, was in self._con.execute(
            f"SELECT r.id, f.name, l.marker, l.marked_at, l.reason, l.asked, r.status, l.answered, {before} FROM runs r"
            " LEFT JOIN lives l ON l.run = r.id JOIN folders d ON d.root = r.root AND d.rel = r.folder"
            f" JOIN files f ON f.folder = d.id AND f.name IN ({marks}) AND f.run = r.id AND f.state IN (2, 4)"
            f"{candidates} AND (r.identity NOT LIKE 'run:%' OR coalesce(l.may_end, 0))"
            f"{nothing.format(0)}{nothing.format(1)}{nothing.format(3)}",
            (*markers, END_REFUSED),
        ):
            # A marker that is gone has its receipt still. None: nothing was read of the folder yet.
            word = markers[blob(name)] if marker is None else marker
            if not word or (word == (asked or status) and answered in (None, 1)):
                continue
            if run not in ends or word == "FAILED":
                why = f"{blob(name).decode()} stands in the run folder" if word == "FAILED" else ""
                ends[run] = End(word, at, reason or why, was or "")
        for run, want, moved, reason, was in self._con.execute(
            f"SELECT r.id, l.want, l.moved_at, l.why, {before} FROM lives l JOIN runs r ON r.id = l.run"
            f" WHERE {OPEN} AND l.marker = '' AND l.want != '' AND r.run_id IS NOT NULL"
            f" AND r.status != ? AND {_MAY_END}"
            f" AND (l.want = 'RUNNING' OR 1{nothing.format(waits)}{nothing.format(1)})",
            (END_REFUSED,),
        ):
            at = None if moved is None else int(moved * 1000)
            ends[run] = End(want, at, reason if want == "KILLED" else "", was)
        return ends

    def began(self, run: int) -> int | None:
        """When a run that is to be made began, milliseconds since 1970; None if nothing is known."""
        row = self._con.execute("SELECT began FROM lives WHERE run = ?", (run,)).fetchone()
        return None if row is None else row[0]

    def nesting(self, run: int) -> tuple[int | None, bool]:
        """The row of the run that a run is nested in, and whether others may be nested in it."""
        row = self._con.execute("SELECT parent, nests FROM lives WHERE run = ?", (run,)).fetchone()
        return (None, False) if row is None else (row[0], bool(row[1]))

    def nested_in(self, run: int) -> list[int]:
        """The rows of the runs that are nested in a run."""
        return [int(child) for (child,) in self._con.execute("SELECT run FROM lives WHERE parent = ?", (run,))]
