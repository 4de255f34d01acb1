"""Power cuts: a disk rebuilt from strace's log as it would be found after one, and a writer for the ledger.

    python power.py STATE_DIR SEED      writes into a ledger as the service does, and acknowledges each transaction

The model: what was written is on the disk for sure once an fsync of its file came back. Of later writes each sector of
512 bytes holds what it held at some moment since, and the file has a size that it had since. A new name is durable at
once (a journalling filesystem writes it down with the first fsync of its file); a removal is from the next fsync on.
The index that SQLite keeps beside its log is no part of it: that is a shared memory which is made anew.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import Blockage, Ledger, State, Wanted
from artifactd.watching.signature import Signature

SECTOR = 512
# A question mark is before what some processors do not have.
_CALLS = (
    "openat,?creat,close,write,pwrite64,pwritev,writev,ftruncate,fallocate,fsync,fdatasync,?unlink,unlinkat,?rename,"
    "?renameat,renameat2,?mkdir"
)
_CALL = re.compile(rb"(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"(\.*)')
_ON_FD = re.compile(rb"(\d+)<((?:\\x[0-9a-f]{2})*)>")


def strace(log: Path, *more: str) -> list[str]:
    """What to put before a command, so that all that its first thread does to files is in `log`."""
    options = ["-qq", "-y", "-xx", "-s", "2000000", "-e", "signal=none", "-e", f"trace={_CALLS}", *more]
    return ["strace", "-o", str(log), *options]


@dataclass(frozen=True)
class Call:
    """One system call that came back.

    Attributes:
        name: Which.
        path: The file that it is about.
        said: What was written; empty for other calls.
        args: All arguments as strace shows them.
        result: What it returned.
    """

    name: str
    path: bytes
    said: bytes
    args: bytes
    result: int


def calls(log: Path, *below: Path) -> Iterator[Call]:
    """The calls about what is `below`; those that failed, or never came back, change nothing."""
    wanted = [_hex(os.fsencode(b)) for b in below]
    for line in log.read_bytes().splitlines():
        call = _CALL.match(line)
        if call is None or int(call[3]) < 0 or not any(w in line for w in wanted):
            continue
        name, args = call[1].decode(), call[2]
        texts = [_plain(t[1]) for t in _TEXT.finditer(args)]
        assert not any(t[2] for t in _TEXT.finditer(args)), f"cut short by strace: {name}"
        on = _ON_FD.match(line, call.start(3) if name in ("openat", "creat") else call.start(2))
        yield Call(name, _plain(on[2]) if on else texts[0], texts[0] if on and texts else b"", args, int(call[3]))


def _hex(text: bytes) -> bytes:
    return b"".join(b"\\x%02x" % c for c in text)


def _plain(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(b"\\x", b"").decode())


@dataclass
class _File:
    """A file: what is on the disk for sure, what a reader sees, and the writes between the two."""

    sure: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def write(self, at: int, data: bytes) -> None:
        _put(self.seen, at, data)
        self.writes.append((at, data))
        self.sizes.append(len(self.seen))

    def truncate(self, size: int) -> None:
        old = len(self.seen)
        self.writes.append((min(size, old), bytes(abs(size - old))))
        self.seen[size:] = bytes(max(0, size - old))
        self.sizes.append(size)

    def sync(self) -> None:
        for at, data in self.writes:
            _put(self.sure, at, data)
        del self.sure[len(self.seen) :]
        self.writes, self.sizes = [], []

    def torn(self, rng: random.Random, share: float) -> bytes:
        """Some moment of each sector since the last sync: its newest with a chance of `share`."""
        found = bytearray(self.sure)
        of_sector: dict[int, list[tuple[int, bytes]]] = {}
        for at, data in self.writes:
            for start in range(at - at % SECTOR, at + len(data), SECTOR):
                low, high = max(at, start), min(at + len(data), start + SECTOR)
                of_sector.setdefault(start, []).append((low, data[low - at : high - at]))
        for pieces in of_sector.values():
            count = len(pieces) if rng.random() < share else rng.randrange(len(pieces))
            for at, piece in pieces[:count]:
                _put(found, at, piece)
        size = rng.choice([len(self.sure), *self.sizes])
        return bytes(found[:size]) + bytes(max(0, size - len(found)))


def _put(content: bytearray, at: int, data: bytes) -> None:
    content.extend(bytes(max(0, at + len(data) - len(content))))
    content[at : at + len(data)] = data


Image = dict[bytes, bytes]
"""A folder: file names, contents."""


class Disk:
    """A folder without folders of its own, on a disk whose power may fail.

    Args:
        folder: What stands there now is durable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.fsencode(folder)
        self._files = {n: _File(bytearray(c), bytearray(c)) for n, c in real(folder).items()}
        self._removed: dict[bytes, _File] = {}

    @property
    def unsynced(self) -> bool:
        """Whether a power cut now would lose something."""
        return bool(self._removed) or any(f.writes for f in self._files.values())

    def apply(self, call: Call) -> None:
        """Let a call happen; one that this model does not know of is an error."""
        name = os.path.relpath(call.path, self.folder)
        if name == b"." or name.startswith((b"..", _TEMPORARY)) or _is_index(name) or call.name == "close":
            return
        match call.name:
            case "openat":
                assert b"O_TRUNC" not in call.args
                if b"O_CREAT" in call.args:
                    self._files.setdefault(name, _File())
            case "pwrite64":
                self._files[name].write(int(call.args.rpartition(b", ")[2]), call.said[: call.result])
            case "ftruncate":
                self._files[name].truncate(int(call.args.rpartition(b", ")[2]))
            case "fsync" | "fdatasync":
                self._files[name].sync()
                self._removed.clear()
            case "unlink" | "unlinkat":
                self._removed[name] = self._files.pop(name)
            case _:
                raise AssertionError(f"no part of the model: {call.name} {os.fsdecode(call.path)}")

    def seen(self) -> Image:
        """Without a power cut."""
        return {n: bytes(f.seen) for n, f in self._files.items()}

    def after_cut(self, rng: random.Random | None = None) -> Image:
        """After a power cut: nothing that was not synced, or with `rng` some of it."""
        share = 0.0 if rng is None else rng.choice((0.5, 0.9, 0.99))
        files = {n: f for n, f in self._removed.items() if rng is None or rng.random() < 0.5} | self._files
        return {n: bytes(f.sure) if rng is None else f.torn(rng, share) for n, f in files.items()}


_TEMPORARY = b"staging"
"""What workers put there is nothing to anybody after a start."""


def real(folder: Path) -> Image:
    """The files that stand in a folder, as the model sees it; temporary ones lie in a folder below."""
    here = folder.iterdir() if folder.exists() else ()
    return {os.fsencode(p.name): p.read_bytes() for p in here if p.is_file() and not _is_index(os.fsencode(p.name))}


def write(image: Image, folder: Path) -> None:
    """Make the folder be this image."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    for name, content in image.items():
        (folder / os.fsdecode(name)).write_bytes(content)


def _is_index(name: bytes) -> bool:
    return name.endswith(b"-shm")


# -- the writer --------------------------------------------------------------------------------------------------


def digest(ledger: Ledger) -> str:
    """Everything that the ledger holds, in short."""
    con = ledger._con
    tables = [t for (t,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    held = [(t, con.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall()) for t in tables]
    return hashlib.sha256(repr(held).encode()).hexdigest()


class Writer:
    """Does with a ledger what the service does, in an order that a seed gives; each step is one transaction.

    Args:
        state_dir: Of the ledger.
        seed: Of the order.
    """

    def __init__(self, state_dir: Path, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311  (a sequence that can be made again, not a secret)
        self._state_dir = state_dir
        self._runs: list[tuple[int, int]] = []
        self._serial = 0

    def live(self, steps: int) -> None:
        """One life of a service: open, recover, work, close."""
        self._ledger = Ledger(self._state_dir)
        self._acknowledge()
        with self._ledger.transaction():
            self._ledger.recover()
            self._root = self._ledger.use_roots([b"/drop"])[b"/drop"]
            self._ledger.keep_target("http://m")
        self._acknowledge()
        for _ in range(steps):
            with self._ledger.transaction():
                for act in self._rng.choices((self._look, self._claim, self._hold), (4, 4, 1), k=3):
                    act()
            self._acknowledge()
        self._ledger.close()

    def _acknowledge(self) -> None:
        """Say what the ledger holds, once that is durable."""
        os.write(1, digest(self._ledger).encode() + b"\n")

    def _look(self) -> None:
        """A look finds files, new ones and changed ones, and files that are gone."""
        if len(self._runs) < 12:
            rel = b"e/r%d" % len(self._runs)
            run = self._ledger.run_for(self._root, rel, "http://m", f"key {rel!r}", "e", os.fsdecode(rel))
            folder, _ = self._ledger.folder(self._root, rel, create=True) or (0, "")
            self._ledger.set_run_settings(run, {"artifactd.path": os.fsdecode(rel)}, {"params": {}})
            self._ledger.set_rules(folder, "rules")
            self._runs.append((run, folder))
        run, folder = self._rng.choice(self._runs)
        self._serial += 1
        states = (State.DUE, State.DUE, State.DUE, State.IGNORED)
        self._ledger.want(folder, [
            Wanted(b"file %d" % n, self._rng.choice(states), Signature(self._serial, n, n, n), run, f"d{n % 3}",
                   f"file {n}", 1000 * folder + n, due_at=float(self._serial))
            for n in self._rng.sample(range(40), 6)
        ])  # fmt: skip
        self._ledger.forget(folder, [b"file %d" % self._rng.randrange(40)])
        self._ledger.describe_root(self._root, "events", healthy=True, detail=str(self._serial))

    def _claim(self) -> None:
        """Answers of the workers, and the next claims."""
        if not self._runs:
            return
        run, _ = self._rng.choice(self._runs)
        self._ledger.set_run_id(run, f"id {run}", "RUNNING", "")
        for file in self._ledger.claim(run, self._serial + 1.0, 5, 10**9):
            match self._rng.randrange(5):
                case 0:
                    pass  # stays under way
                case 1:
                    failure = Failure(Kind.TRANSIENT, Scope.FILE, "500 " * self._rng.randrange(200))
                    self._ledger.not_delivered(file.id, failure, self._serial + 9.0, touched=True)
                case 2:
                    self._ledger.wait(file.id, file.signature, self._serial + 5.0, "it changed", touched=False)
                case _:
                    content, size = self._rng.randbytes(32), file.signature.size
                    self._ledger.delivered(file, content, size=size, now=1.0, sent=True, due_again=2.0)
                    self._ledger.was_sent(file.id, size, 1.0, in_a_row=1)
                    self._ledger.count("bytes_sent", size)

    def _hold(self) -> None:
        """The target is held back, or well again."""
        blockage = Blockage("transient", "down", "", self._serial, self._serial + 1.0)
        self._ledger.block_target("http://m", self._rng.choice((blockage, None)))


if __name__ == "__main__":
    writer = Writer(Path(sys.argv[1]), int(sys.argv[2]))
    for steps in (130, 30):
        writer.live(steps)
