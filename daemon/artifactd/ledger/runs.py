"""Runs and targets: who they are, how they stand, and until when they are held back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from artifactd.errors import Failure
from artifactd.ledger.damage import blob
from artifactd.ledger.lives import Lives
from artifactd.ledger.rows import END_REFUSED, Blockage, Doubt, Held, Run, State
from artifactd.paths import join
from artifactd.runfolder import End

_RUN_COLUMNS = (
    "r.id, r.root, roots.path, r.folder, r.target, r.identity, r.experiment, r.name, r.tags, r.settings, r.applied,"
    " r.run_id, r.status, r.kind, r.error, r.cure, r.attempts, r.next_try FROM runs r JOIN roots ON roots.id = r.root"
)


class Runs(Lives):
    """The side of the ledger that faces MLflow's runs."""

    def run_for(self, root: int, folder: bytes, target: str, identity: str, experiment: str, name: str) -> int:
        """The row of a run folder's run, made when it is new. Its experiment and name follow the layout."""
        row = self._con.execute(
            "INSERT INTO runs (root, folder, target, identity, experiment, name) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET experiment = excluded.experiment, name = excluded.name RETURNING id",
            (root, folder, target, identity, experiment, name),
        ).fetchone()
        return int(row[0])

    def known_run(self, root: int, folder: bytes, target: str, identity: str) -> int | None:
        """The row of this run, if there is one and it exists on the server."""
        known = self._con.execute(
            "SELECT id FROM runs WHERE root = ? AND folder = ? AND target = ? AND identity = ? AND run_id IS NOT NULL",
            (root, folder, target, identity),
        ).fetchone()
        return None if known is None else int(known[0])

    def set_run_settings(self, run: int, tags: dict[str, str], settings: dict[str, Any]) -> None:
        """What the layout's names and artifactd.toml say of the run; a change is told to the server once."""
        tags_text, settings_text = (json.dumps(x, sort_keys=True) for x in (tags, settings))
        self._con.execute(
            "UPDATE runs SET tags = ?, settings = ? WHERE id = ? AND (tags, settings) != (?, ?)",
            (tags_text, settings_text, run, tags_text, settings_text),
        )

    def run(self, run: int) -> Run:
        """One run by its row's number."""
        return _run(self._con.execute(f"SELECT {_RUN_COLUMNS} WHERE r.id = ?", (run,)).fetchone())

    def set_run_id(
        self, run: int, run_id: str, status: str, applied: str, *, found: bool = False, fleet: bool = False
    ) -> None:
        """The run exists under this id; `applied` is the settings text that the server now knows.

        Where it had another id before, that run was purged with all it held: what is still on disk is due again. A run
        that was `found` and not made may hold files that the ledger knows nothing of, as when the ledger was lost; one
        of a `fleet` may hold those of other hosts.
        """
        self._con.execute("UPDATE runs SET found = ? WHERE id = ? AND run_id IS NULL", (found, run))
        (before,) = self._con.execute("SELECT run_id FROM runs WHERE id = ?", (run,)).fetchone()
        if before not in (None, run_id):
            self._void_receipts(run, Doubt.STRANGE if fleet else Doubt.CHANGED)
        self._found_so(run, status, other=before != run_id, fleet=fleet)
        self._con.execute(
            "UPDATE runs SET run_id = ?, status = ?, applied = ?, kind = NULL, error = NULL, cure = NULL, attempts = 0,"
            " next_try = 0 WHERE id = ?",
            (run_id, status, applied, run),
        )

    def _void_receipts(self, run: int, doubt: Doubt) -> None:
        self._con.execute(
            "DELETE FROM versions WHERE EXISTS (SELECT 1 FROM files f WHERE f.run = ? AND f.folder = versions.folder"
            " AND f.name = versions.name AND f.dest = versions.base)",
            (run,),
        )
        # What is due or failed may have been stored as well, with this content or an older one.
        self._con.execute(
            "UPDATE files SET due_at = CASE state WHEN 2 THEN 0 ELSE due_at END,"
            " state = CASE state WHEN 2 THEN 0 ELSE state END, doubt = ?, told = NULL, told_at = NULL"
            " WHERE run = ? AND state IN (0, 2, 3)",
            (doubt, run),
        )

    def forget_found(self) -> None:
        """All that is on disk has been compared with the runs that were found: what comes now is new to them."""
        self._con.execute("UPDATE runs SET found = 0 WHERE found")

    def set_run_status(self, run: int, status: str) -> None:
        """MLflow was told this status."""
        self.end_told(run, status)
        self._con.execute(
            "UPDATE runs SET status = ?, kind = NULL, error = NULL, cure = NULL WHERE id = ?", (status, run)
        )

    def block_run(self, run: int, blockage: Blockage | None) -> None:
        """Hold a run back until ``blockage.next_try``, or let it go."""
        b = blockage or Blockage("", "", "", 0, 0.0)
        self._con.execute(
            "UPDATE runs SET kind = ?, error = ?, cure = ?, attempts = ?, next_try = ? WHERE id = ?",
            (*((b.kind, b.error, b.cure) if blockage else (None, None, None)), b.attempts, b.next_try, run),
        )

    def fail_run_files(self, run: int, failure: Failure) -> int:
        """All that is due in this run fails for one reason (the run was deleted, say). Returns how many."""
        return self._con.execute(
            "UPDATE files SET state = ?, kind = ?, error = ?, cure = ?, attempts = attempts + 1"
            " WHERE state = 0 AND run = ?",
            (State.FAILED, failure.kind, failure.error, failure.cure, run),
        ).rowcount

    def runs_to_end(self, markers: dict[bytes, str]) -> list[tuple[Run, End]]:
        """Runs of which the server is to be told another status than it was told last.

        A run whose folder holds a marker ends once nothing of it is left to store; ``.failed`` wins over the others.
        One that was given up is KILLED once nothing of it is due, and what lives again is RUNNING.
        """
        return [(self.run(run), end) for run, end in self._open_ends(markers).items()]

    def runs_to_update(self, target: str) -> list[Run]:
        """Runs of this target whose tags or settings changed since the server was told."""
        rows = self._con.execute(
            f"SELECT {_RUN_COLUMNS} WHERE r.run_id IS NOT NULL AND r.applied != r.tags || r.settings AND r.target = ?",
            (target,),
        )
        return [_run(row) for row in rows]

    def blockages(self) -> dict[str, Blockage]:
        """Targets that are held back, by URI."""
        rows = self._con.execute("SELECT uri, kind, error, cure, attempts, next_try FROM targets")
        return {r[0]: Blockage(*r[1:]) for r in rows}

    def held(self) -> list[Held]:
        """What is held back: each target, and the runs of active roots as one. For a line that is often asked for."""
        # Of the rows that an aggregate reads, columns that stand bare are those of the one with the least id.
        rows = self._con.execute(
            "SELECT 1, NULL, NULL, kind, error FROM targets UNION ALL"
            " SELECT number, path, folder, kind, error FROM ("
            "SELECT count(*) AS number, min(r.id), roots.path, r.folder, r.kind, r.error FROM runs r"
            " JOIN roots ON roots.id = r.root AND roots.active WHERE r.kind IS NOT NULL) WHERE number"
        )
        return [
            Held(number, None if root is None else join(blob(root), blob(folder)), kind, error or "")
            for number, root, folder, kind, error in rows
        ]

    def release_idle(self, now: float, waiting: Collection[int] = ()) -> None:
        """What is held back although nothing waits for it any more would be shown for ever: nobody tries it.

        Args:
            now: Unix seconds.
            waiting: Runs that wait for the server without having files due.
        """
        idle = "NOT EXISTS (SELECT 1 FROM files f WHERE f.state = {} AND f.run = runs.id)"
        self._con.execute(
            "UPDATE runs SET kind = NULL, error = NULL, cure = NULL, attempts = 0, next_try = 0"
            f" WHERE kind IS NOT NULL AND next_try < ? AND {idle.format(0)} AND {idle.format(1)}"
            " AND id NOT IN (SELECT value FROM json_each(?)) AND status != ?",
            (now, json.dumps(list(waiting)), END_REFUSED),
        )
        if waiting:
            return
        self._con.execute(
            "DELETE FROM targets WHERE next_try < ? AND NOT EXISTS (SELECT 1 FROM files WHERE state = 0)"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE state = 1)",
            (now,),
        )

    def keep_target(self, uri: str) -> None:
        """Only this target is of interest: what held another back is forgotten."""
        self._con.execute("DELETE FROM targets WHERE uri != ?", (uri,))

    def block_target(self, uri: str, blockage: Blockage | None) -> None:
        """Hold a target back until ``blockage.next_try``, or let it go."""
        if blockage is None:
            self._con.execute("DELETE FROM targets WHERE uri = ?", (uri,))
        else:
            b = blockage
            self._con.execute(
                "INSERT OR REPLACE INTO targets VALUES (?, ?, ?, ?, ?, ?)",
                (uri, b.kind, b.error, b.cure, b.attempts, b.next_try),
            )


def _run(row: Iterable[Any]) -> Run:
    values = list(row)
    tags, settings = values[8], values[9]
    values[2:4] = [blob(values[2]), blob(values[3])]
    values[8:10] = [json.loads(tags), json.loads(settings or "{}"), tags + settings]
    return Run(*values)
