"""The outside oracle: a process that makes files, keeps its own list of what came to rest, and reads the store back.

    python oracle.py make --drop DIR --list FILE --seed N --rate OPS   until its stdin closes
    python oracle.py verdict --list FILE --uri URI --to DIR            prints the verdict as JSON

It never asks artifactd, whose ledger and status it does not know of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import select
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Verdict = dict[str, Any]

NAMES = (
    b"model.pkl", b"with space.txt", b"hash#1.png", b"hash#2.png", b"what?.txt", b"100%.txt", b"pct%20x", b".hidden",
    b"back\\slash", b"new\nline", b"nonutf8-\xff\xfe.bin", b"a" * 255, b"_x23_", b"c:drive", b"semi;colon", b"d1",
    "é nfc".encode(), b"e\xcc\x81 nfd", b" lead", b"trail ",
)  # fmt: skip
FOLDERS = (b"d1", b"e f", b"g#h", b"\xff", b"i%j", b"deep")
EXPERIMENTS = (b"storm-a", b"storm-b")
MARKER = b".done"
MANIFEST = "artifactd/manifest.json"
SECRET = b"this stands outside of the watched folder and is nobody's artifact"


class Maker:
    """Makes files; what it does follows from the seed alone.

    Args:
        drop: The watched folder.
        seed: Of the sequence.
    """

    def __init__(self, drop: Path, seed: int) -> None:
        self._drop = os.fsencode(drop)
        self._rng = random.Random(seed)  # noqa: S311  (a sequence that can be made again, not a secret)
        self._outside = os.path.join(os.path.dirname(self._drop), b"outside")
        os.makedirs(self._outside, exist_ok=True)
        self._put(os.path.join(self._outside, b"secret"), SECRET)
        self._runs: list[bytes] = []
        self._ended: set[bytes] = set()
        self.ops = 0
        self.now: dict[bytes, bytes] = {}
        self.ever: dict[bytes, set[str]] = {}
        self._actions: tuple[tuple[float, Callable[[], None]], ...] = (
            (30, self._create), (14, self._overwrite), (10, self._append), (8, self._same_size), (6, self._touch),
            (8, self._replace), (8, self._rename), (6, self._delete), (2, self._rename_folder), (2, self._link),
            (0.5, self._new_run), (0.5, self._end_run),
        )  # fmt: skip

    def step(self) -> None:
        """Do one thing."""
        if not self._runs:
            self._new_run()
        weights, actions = zip(*self._actions, strict=True)
        self._rng.choices(actions, weights)[0]()
        self.ops += 1

    def write_list(self, path: Path) -> None:
        """Write down what is at rest, and all that ever was."""
        data = {
            "ops": self.ops,
            "runs": [os.fsdecode(r) for r in self._runs],
            "last": {os.fsdecode(p): _digest(c) for p, c in self.now.items()},
            "ever": {os.fsdecode(p): sorted(d) for p, d in self.ever.items()},
        }
        path.write_text(json.dumps(data))

    # -- what it does --------------------------------------------------------------------------------------------

    def _create(self) -> None:
        run = self._rng.choice(self._runs[-6:])
        depth = self._rng.choice((0, 0, 0, 1, 1, 2, 5))
        rel = b"/".join([run, *self._rng.choices(FOLDERS, k=depth), b"%d-" % self.ops + self._name()])
        self._write(rel, self._content())

    def _overwrite(self) -> None:
        if (rel := self._any()) is not None:
            self._write(rel, self._content(), pieces=self._rng.choice((1, 1, 3)))

    def _append(self) -> None:
        if (rel := self._any()) is not None:
            more = self._rng.randbytes(self._rng.randrange(1, 4000))
            with open(self._abs(rel), "ab") as f:
                f.write(more)
            self._rests(rel, self.now[rel] + more)

    def _same_size(self) -> None:
        """Rewritten in place, with the same size, and the time of before put back."""
        if (rel := self._any()) is not None and self.now[rel]:
            st = os.stat(self._abs(rel))
            with open(self._abs(rel), "r+b") as f:
                f.write(content := self._rng.randbytes(len(self.now[rel])))
            os.utime(self._abs(rel), ns=(st.st_atime_ns, st.st_mtime_ns))
            self._rests(rel, content)

    def _touch(self) -> None:
        if (rel := self._any()) is not None:
            os.utime(self._abs(rel))

    def _replace(self) -> None:
        if (rel := self._any()) is not None:
            content = self._content()
            temporary = self._abs(rel.rpartition(b"/")[0]) + b"/%d.tmp" % self.ops
            self._put(temporary, content)
            os.replace(temporary, self._abs(rel))
            self._rests(rel, content)

    def _rename(self) -> None:
        if (old := self._any()) is not None:
            new = b"%s/%d-r-%s" % (old.rpartition(b"/")[0], self.ops, self._name())
            os.rename(self._abs(old), self._abs(new))
            self._rests(new, self.now.pop(old))

    def _delete(self) -> None:
        if (rel := self._any()) is not None:
            os.unlink(self._abs(rel))
            del self.now[rel]

    def _rename_folder(self) -> None:
        inner = sorted({b"/".join(p.split(b"/")[:3]) for p in self.now if p.count(b"/") > 2})
        if inner:
            old = self._rng.choice(inner)
            new = b"%s-%d" % (old, self.ops)
            os.rename(self._abs(old), self._abs(new))
            for rel in [p for p in self.now if p.startswith(old + b"/")]:
                self._rests(new + rel[len(old) :], self.now.pop(rel))

    def _link(self) -> None:
        """Links to what is outside, in every folder a way out."""
        run = self._rng.choice(self._runs)
        target = self._rng.choice((self._outside, os.path.join(self._outside, b"secret")))
        os.symlink(target, self._abs(run) + b"/%d-link" % self.ops)

    def _new_run(self) -> None:
        run = self._rng.choice(EXPERIMENTS) + b"/run-%d" % len(self._runs)
        os.makedirs(self._abs(run))
        self._runs.append(run)
        self._write(run + b"/first", self._content())

    def _end_run(self) -> None:
        """The marker; the oldest run of which there is none yet."""
        for run in self._runs:
            if run not in self._ended:
                self._ended.add(run)
                self._write(run + b"/" + MARKER, b"")
                return

    # -- how -----------------------------------------------------------------------------------------------------

    def _any(self) -> bytes | None:
        usable = [p for p in list(self.now)[-400:] if not p.endswith(b"/" + MARKER)]
        return self._rng.choice(usable) if usable else None

    def _name(self) -> bytes:
        return self._rng.choice(NAMES)[:240]

    def _content(self) -> bytes:
        size = self._rng.choice((0, 1, 100, 4096, 4097, 20_000, 65_536, 300_000))
        return self._rng.randbytes(size)

    def _write(self, rel: bytes, content: bytes, pieces: int = 1) -> None:
        os.makedirs(os.path.dirname(self._abs(rel)), exist_ok=True)
        size = max(1, -(-len(content) // pieces))
        with open(self._abs(rel), "wb", buffering=0) as f:
            for start in range(0, len(content), size):
                f.write(content[start : start + size])
        self._rests(rel, content)

    def _put(self, path: bytes, content: bytes) -> None:
        with open(path, "wb") as f:
            f.write(content)

    def _rests(self, rel: bytes, content: bytes) -> None:
        self.now[rel] = content
        self.ever.setdefault(rel, set()).add(_digest(content))

    def _abs(self, rel: bytes) -> bytes:
        return os.path.join(self._drop, rel)


def judge(data: Verdict, uri: str, to: Path) -> Verdict:
    """Read the store back and compare it with the list.

    Returns:
        Paths that are ``lost`` (missing or stale), ``torn`` (a content that the file never had) or ``outside`` (no
        file of ours), names of runs of which there are several, and the numbers of files and operations.
    """
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(uri, registry_uri=uri)
    held: dict[str, str] = {}
    names: Counter[str] = Counter()
    outside: list[str] = []
    for experiment in sorted({r.partition("/")[0] for r in data["runs"]}):
        found = client.get_experiment_by_name(experiment)
        if found is None:
            continue
        for run in _pages(client, found.experiment_id, ViewType.ALL):
            folder = f"{experiment}/{run.info.run_name}"
            names[folder] += 1
            for path, content in _download(client, run.info.run_id, to / run.info.run_id):
                if path == MANIFEST:  # no file of the folder is stored there
                    continue
                held[f"{folder}/{os.fsdecode(decode(path))}"] = content
                if content == _digest(SECRET):
                    outside.append(path)
    lost = [p for p, digest in data["last"].items() if held.get(p) != digest]
    torn = [p for p, digest in held.items() if p in data["ever"] and digest not in data["ever"][p]]
    outside += [p for p in held if p not in data["ever"]]
    return {
        "ops": data["ops"], "files": len(data["last"]), "held": len(held),
        "lost": [f"{p}: {'stale' if p in held else 'missing'}" for p in lost], "torn": torn, "outside": outside,
        "duplicate_runs": [n for n, count in names.items() if count > 1],
    }  # fmt: skip


def decode(path: str) -> bytes:
    """An artifact path's name on disk, by the published rule: ``_xHH_`` is a byte, ``_x_`` at the end goes on."""
    parts = []
    for part in path.split("/"):
        more = part.endswith("_x_")
        raw = os.fsencode(part[:-3] if more else part)
        parts.append(re.sub(rb"_x([0-9A-F]{2})_", lambda m: bytes([int(m[1], 16)]), raw) + (b"" if more else b"/"))
    return b"".join(parts)[:-1]


def _download(client: Any, run_id: str, to: Path) -> Iterator[tuple[str, str]]:
    if not client.list_artifacts(run_id):
        return
    to.mkdir(parents=True)
    copy = os.fsencode(client.download_artifacts(run_id, "", str(to)))
    for here, _, files in os.walk(copy):
        for name in files:
            path = os.path.join(here, name)
            with open(path, "rb") as f:
                yield os.fsdecode(os.path.relpath(path, copy)), _digest(f.read())
    shutil.rmtree(to)


def _pages(client: Any, experiment: str, view: int) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], run_view_type=view, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make(maker: Maker, rate: float, most: int | None = None) -> None:
    """Do so many things a second until stdin closes."""
    due = time.monotonic()
    while most is None or maker.ops < most:
        due = max(due + 1 / rate, time.monotonic() - 1)
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            return
        maker.step()


def main() -> None:
    """The two commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("make", "verdict"))
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--drop", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--uri")
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    if args.command == "make":
        maker = Maker(args.drop, args.seed)
        make(maker, args.rate)
        maker.write_list(args.list)
    else:
        json.dump(judge(json.loads(args.list.read_text()), args.uri, args.to), sys.stdout)


if __name__ == "__main__":
    main()
