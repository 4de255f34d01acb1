from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd.watching.inside import Escapes, NotRegular, held_for_writing, open_file, open_folder, open_root

NOBODY = 65534


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Make root's thread a nobody for files: setfsuid(2) concerns one thread and takes CAP_DAC_OVERRIDE away."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.setfsuid(NOBODY)
    assert libc.setfsuid(-1) == NOBODY
    try:
        yield
    finally:
        libc.setfsuid(0)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    fd = open_root(bytes(tmp_path / "root"))
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    with open(fd, "rb") as stream:
        return stream.read()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", [b"plain", b"new\nline", b"\xff\xfe", b"x" * 255, b" ", b"-rf", b"\xc3\xa9"])
def test_a_regular_file_is_opened_whatever_its_name(root: int, tmp_path: Path, name: bytes) -> None:
    folder = bytes(tmp_path / "root") + b"/" + name
    os.mkdir(folder)
    with open(folder + b"/" + name, "wb") as stream:
        stream.write(name)
    assert content(open_file(root, name + b"/" + name)) == name


def test_the_descriptor_does_not_reach_child_processes(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/f").touch()
    fd = open_file(root, b"f")
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_what_is_no_regular_file_is_refused_by_its_name_for_people(root: int, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "target").touch()
    (folder / "link").symlink_to("target")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket"))
        for name, rule in {
            b"link": "symbolic link",
            b"dangling": "symbolic link",
            b"folder": "folder",
            b"pipe": "named pipe",
            b"socket": "socket",
        }.items():
            with pytest.raises(NotRegular) as caught:
                open_file(root, name)
            assert caught.value.rule == rule


def test_a_device_is_refused() -> None:
    dev = open_root(b"/dev")
    with pytest.raises(NotRegular) as caught:
        open_file(dev, b"null")
    os.close(dev)
    assert caught.value.rule == "device"


def test_the_writer_of_a_pipe_is_not_woken(root: int, tmp_path: Path) -> None:
    pipe = tmp_path / "root/pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["/bin/sh", "-c", f"echo data > '{pipe}'; echo woken"], stdout=subprocess.PIPE)
    try:
        for _ in range(50):
            with pytest.raises(NotRegular):
                open_file(root, b"pipe")
            time.sleep(0.001)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


def test_what_is_gone_is_file_not_found(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/file").touch()
    for rel in (b"gone", b"gone/f", b"file/f", b"file/deeper/f"):
        with pytest.raises(FileNotFoundError):
            open_file(root, rel)
    for rel in (b"gone", b"file", b"file/deeper"):
        with pytest.raises(FileNotFoundError):
            open_folder(root, rel)


def test_a_root_that_was_removed_is_file_not_found(root: int, tmp_path: Path) -> None:
    (tmp_path / "root").rmdir()
    with pytest.raises(FileNotFoundError):
        open_file(root, b"f")


def test_a_linked_folder_on_the_way_escapes(root: int, tmp_path: Path) -> None:
    (tmp_path / "outside/deeper").mkdir(parents=True)
    (tmp_path / "outside/deeper/f").touch()
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    for rel in (b"link/deeper/f", b"link/f"):
        with pytest.raises(Escapes):
            open_file(root, rel)
    for rel in (b"link", b"link/deeper"):
        with pytest.raises(Escapes):
            open_folder(root, rel)


@pytest.mark.parametrize("rel", [b"../outside", b"a/../../outside", b"/etc/passwd", b"a//f", b"a/./f", b".."])
def test_a_path_that_leads_elsewhere_is_refused(root: int, tmp_path: Path, rel: bytes) -> None:
    (tmp_path / "outside").touch()
    (tmp_path / "root/a").mkdir()
    (tmp_path / "root/a/f").touch()
    with pytest.raises(Escapes):
        open_file(root, rel)


def test_missing_rights_are_a_permission_error(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/f").touch(0)
    (tmp_path / "root/closed").mkdir()
    (tmp_path / "root/closed/f").touch()
    (tmp_path / "root/closed").chmod(0)
    with without_rights():
        for rel in (b"f", b"closed/f"):
            with pytest.raises(PermissionError):
                open_file(root, rel)
        with pytest.raises(PermissionError):
            open_folder(root, b"closed")
    (tmp_path / "root/closed").chmod(0o700)


def test_a_folder_that_may_only_be_passed_lets_its_files_be_read(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/drop").mkdir()
    (tmp_path / "root/drop/f").write_bytes(b"content")
    (tmp_path / "root/drop/f").chmod(0o444)
    (tmp_path / "root/drop").chmod(0o111)
    with without_rights():
        assert content(open_file(root, b"drop/f")) == b"content"
    (tmp_path / "root/drop").chmod(0o700)


def test_a_path_longer_than_the_kernel_takes_at_once_is_opened(root: int) -> None:
    name = b"n" * 250
    fd = os.dup(root)
    for _ in range(20):  # 5,000 bytes; PATH_MAX is 4,096
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    assert content(open_file(root, b"/".join([name] * 20 + [b"f"]))) == b""


def test_no_descriptor_is_left_behind(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/a/b/c").mkdir(parents=True)
    (tmp_path / "root/a/b/c/f").touch()
    (tmp_path / "root/a/link").symlink_to("b")
    before = descriptors()
    os.close(open_file(root, b"a/b/c/f"))
    os.close(open_folder(root, b"a/b/c"))
    os.close(open_folder(root, b""))
    for rel in (b"a/b/gone", b"a/link/c/f", b"a/b/c", b"a/b/c/f/x", b"a/b/../b/c/f"):
        with pytest.raises((FileNotFoundError, NotRegular)):
            open_file(root, rel)
    assert descriptors() == before


def swapped(swap: Callable[[], None], attempt: Callable[[], bytes]) -> set[str]:
    """Attempt for a second, and until it was read and refused, while another thread swaps; the outcomes seen."""
    stop, seen = threading.Event(), set[str]()
    failure: list[BaseException] = []

    def keep_swapping() -> None:
        try:
            while not stop.is_set():
                swap()
        except BaseException as exc:
            failure.append(exc)
            raise

    thread = threading.Thread(target=keep_swapping)
    thread.start()
    try:
        begun = time.monotonic()
        while (took := time.monotonic() - begun) < 1 or (took < 30 and not seen >= {"read", "refused"}):
            try:
                data = attempt()
            except (FileNotFoundError, NotRegular) as exc:
                seen.add("refused" if isinstance(exc, NotRegular) else "gone")
            else:
                assert data == b"inside"
                seen.add("read")
    finally:
        stop.set()
        thread.join()
    assert not failure
    return seen


def test_a_file_that_is_swapped_for_a_link_never_leads_outside(root: int, tmp_path: Path) -> None:
    secret, name, spare = tmp_path / "secret", tmp_path / "root/f", tmp_path / "root/spare"
    secret.write_bytes(b"outside")

    def swap() -> None:
        spare.symlink_to(secret)
        spare.replace(name)
        spare.write_bytes(b"inside")
        spare.replace(name)

    swap()
    assert swapped(swap, lambda: content(open_file(root, b"f"))) >= {"read", "refused"}


def test_a_folder_that_is_swapped_for_a_link_never_leads_outside(root: int, tmp_path: Path) -> None:
    outside, folder, aside = tmp_path / "outside", tmp_path / "root/a/b", tmp_path / "root/aside"
    outside.mkdir()
    (outside / "f").write_bytes(b"outside")
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(b"inside")

    def swap() -> None:
        folder.rename(aside)
        folder.symlink_to(outside)
        folder.unlink()
        aside.rename(folder)

    assert swapped(swap, lambda: content(open_file(root, b"a/b/f"))) >= {"read", "refused"}


@pytest.fixture
def file(root: int, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "root/f"
    path.write_bytes(b"x" * 2 * mmap.PAGESIZE)
    fd = open_file(root, b"f")
    if held_for_writing(fd) is None:
        pytest.skip("the test folder's filesystem knows no leases")
    yield path, fd
    os.close(fd)


def test_an_open_writer_is_seen_until_it_closes(file: tuple[Path, int]) -> None:
    path, fd = file
    assert held_for_writing(fd) is False
    for mode in ("ab", "r+b"):
        with path.open(mode):
            assert held_for_writing(fd) is True
        assert held_for_writing(fd) is False


def test_readers_do_not_matter(file: tuple[Path, int]) -> None:
    path, fd = file
    with path.open("rb"):
        assert held_for_writing(fd) is False


def test_a_writable_mapping_is_seen_after_its_descriptor_was_closed(file: tuple[Path, int]) -> None:
    path, fd = file
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    writer = os.open(path, os.O_RDWR)
    address = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, writer, 0)
    os.close(writer)
    try:
        assert held_for_writing(fd) is True
    finally:
        libc.munmap(address, mmap.PAGESIZE)
    assert held_for_writing(fd) is False


def test_the_lease_is_given_back(file: tuple[Path, int]) -> None:
    path, fd = file
    held_for_writing(fd)
    assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # would be EWOULDBLOCK under a lease


def test_asking_any_number_of_times_beside_a_writer_kills_neither(file: tuple[Path, int]) -> None:
    """A writer that opens while the lease is held has the kernel signal the holder: by SIGIO this process would die."""
    path, fd = file
    assert signal.getsignal(signal.SIGIO) is signal.SIG_DFL
    loop = "import os,sys,time\nend=time.time()+0.5\nwhile time.time()<end: os.close(os.open(sys.argv[1],os.O_WRONLY))"
    writer = subprocess.Popen([sys.executable, "-S", "-c", loop, str(path)])
    answers = set()
    while writer.poll() is None:
        answers.add(held_for_writing(fd))
    assert writer.returncode == 0
    assert answers == {True, False}


def test_it_cannot_tell_where_there_are_no_leases() -> None:
    reading, writing = os.pipe()
    assert held_for_writing(reading) is None
    os.close(reading)
    os.close(writing)


def test_it_cannot_tell_of_somebody_elses_file(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from artifactd.watching.inside import held_for_writing\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        f"if os.geteuid() == 0: os.setuid({NOBODY})\n"
        "sys.exit(held_for_writing(fd) is not None)"
    )
    mine = tmp_path / "f"
    mine.touch()
    other = str(mine) if os.geteuid() == 0 else "/etc/passwd"
    assert subprocess.run([sys.executable, "-c", code, other], check=False).returncode == 0
