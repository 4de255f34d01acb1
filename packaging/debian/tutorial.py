"""Follows docs/tutorial.md to the letter in a clean Debian, from the package to the last block, and tells the time.

    PYTHONPATH=tests python3 packaging/debian/tutorial.py ROOT

ROOT is a root filesystem that has /proc, and the packages in /root/dist. Ends with an error where the page does not
hold, or where the first file is in its run later than it is promised.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from reader import BLOCKS, Reader, name_of

_PROMISED = 300.0
"""Seconds from the package to the first file in its run."""

_NAME = "somebody"
_FIRST_FILE = "params.json"


def _reader(root: Path, name: str, home: str) -> Reader:
    """Somebody in that root, who has what a login gives and nothing else."""
    within = ["/usr/sbin/chroot", f"--userspec={name}:{name}", str(root)]
    path = "/usr/local/bin:/usr/bin:/bin" + (":/usr/local/sbin:/usr/sbin:/sbin" if name == "root" else "")
    environ = {"HOME": home, "PATH": path, "LANG": "C.UTF-8", "COLUMNS": "160", "DEBIAN_FRONTEND": "noninteractive"}
    return Reader(root.parent / f"{name}.said", environ, within)


def _of_package() -> tuple[str, str]:
    """The two blocks that install the package: root's, and what a user then does instead of making an environment."""
    scripts = [text for language, text in BLOCKS if language == "sh"]
    [install] = [text for text in scripts if text.startswith("apt-get ")]
    return install, scripts[scripts.index(install) + 1]


def main(root: Path) -> None:
    """Follow the page, and print how long its parts took.

    Raises:
        AssertionError: A block does not do what the page says.
        SystemExit: The first file is not in its run, or too late.
    """
    subprocess.run(["/usr/sbin/chroot", root, "useradd", "--create-home", _NAME], check=True)
    install, enter = _of_package()
    administrator, user = _reader(root, "root", "/root"), _reader(root, _NAME, f"/home/{_NAME}")
    begun = time.monotonic()
    administrator.type(install)
    installed = time.monotonic() - begun
    user.type(enter)
    first = 0.0
    try:
        for language, text in BLOCKS:
            if name_of(text):
                user.save(text)
            elif language == "console":
                user.follow(text)
            if not first and "$ artifactd sync " in text:
                if _FIRST_FILE not in user.ask("artifactd ls drop/line/slow"):
                    sys.exit("tutorial: the run does not have its first file")
                first = time.monotonic() - begun
    finally:
        user.end()
    print(  # noqa: T201 (a command of make's)
        f"The tutorial, to the letter, in a clean Debian: installed after {installed:.0f} s, the first file in its run "
        f"after {first:.0f} s, the last block done after {time.monotonic() - begun:.0f} s"
    )
    if first > _PROMISED:
        sys.exit(f"tutorial: the first file took more than {_PROMISED:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
