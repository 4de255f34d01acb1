"""Where the time goes while thousands of small files are delivered: a flame graph of all the service's processes.

    .venv/bin/python benchmarks/profiling.py [--files 5000] [--to docs/profile.svg]

py-spy looks at them a hundred times a second from outside; what is wide took long, and what rests is not in it. All
lies on a filesystem in memory, unless ``--disk`` names another: what a disk takes is not the program's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from costs import cpu, family
from dropping import write_files
from machine import PROJECT
from setting import Scale, Setting

_RATE = 100
_MEMORY = Path("/dev/shm")  # noqa: S108
_PLACES = re.compile(
    r"[^\s(&;]*/(?:site-packages/|python3\.\d+/|daemon/|bin/)| --(?:config|output) [^\s&]+|/[^\s<]*(?=\.\.<)"
)
"""Where this machine has what ran."""


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--store", default="local", help="local, server or s3")
    parser.add_argument("--to", type=Path, default=PROJECT / "docs" / "profile.svg")
    parser.add_argument("--disk", type=Path, default=_MEMORY if _MEMORY.is_dir() else None, help="where to work")
    options = parser.parse_args()
    with Setting(Scale(), options.disk) as setting, ExitStack() as ends:
        form = setting.form(options.store)
        service = setting.service("profile", form, ends)
        base = setting.folder("sources")
        for n in range(3):
            service.drop(write_files(base / f"first-{n}", 300, 4096))
        source = write_files(base / "profiled", options.files, 4096)
        before = {pid: cpu(pid) for pid in family(service.pid)}
        command = [_spy(), "record", "--subprocesses", "--rate", str(_RATE), "--format=flamegraph"]
        command += ["--output", str(options.to), "--pid", str(service.pid), "--nonblocking"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as spy:
            time.sleep(1.5)  # it reads the processes' symbols
            seconds = service.drop(source)
            spy.send_signal(signal.SIGINT)
        for pid, used in before.items():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:60]
            print(f"{1e6 * (cpu(pid) - used) / options.files:6.0f} µs of processor time a file: {words}")
    options.to.write_text(_PLACES.sub("", options.to.read_text()))
    print(f"{options.files} files in {seconds:.2f} s ({options.files / seconds:,.0f} a second): {options.to}")


def _spy() -> str:
    own = Path(sys.executable).with_name("py-spy")
    found = str(own) if own.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("the command py-spy is missing: pip install py-spy")
    return found


if __name__ == "__main__":
    main()
