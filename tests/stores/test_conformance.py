"""What every store must do, the same for each: a row of capabilities says what is special, never an ``if``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores.form import Form
from stores.site import Site, on_disk, write, write_sparsely
from support import wait_for

pytestmark = [pytest.mark.stores, pytest.mark.timeout(600), pytest.mark.usefixtures("told")]

MIB = 2**20
NAMES = (
    b"plain.txt", b"with space.txt", b" lead", b"trail ", b"tab\there", b"new\nline", b"back\\slash", b"hash#1.png",
    b"what?.txt", b"100%.txt", b"pct%20x", b"plus+and&eq=", b"c:drive", b"semi;colon", b"'quotes\"",
    b"nonutf8-\xff\xfe", "nfc é".encode(), b"nfd e\xcc\x81", "emoji 🎉".encode(), b"Case.txt", b"case.txt", b"_x23_",
    b".hidden",
    b"..dots..", b"a" * 255, b"\x01control", b"~tilde", b"$dollar", b"(paren)", b"[bracket]", b"{brace}", b"star*",
    b"pipe|", b"<lt>",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(form: Form, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("site")
    made = Site(base, form)
    yield made
    made.close()
    shutil.rmtree(base)


def test_sizes(site: Site) -> None:
    """Empty, one byte, and around each size at which the way of sending changes."""
    run = site.run("sizes")
    for size in (0, 1, *(p + d for p in site.form.parts for d in (-1, 0, 1))):
        write(run / f"{size}.bin", size)
    site.deliver(run)
    assert site.held(run) == on_disk(run)


def test_a_big_file(site: Site) -> None:
    run = site.run("big")
    write(run / "weights.bin", 300 * MIB)
    site.deliver(run)
    assert site.held(run) == on_disk(run)
    (run / "weights.bin").unlink()


@pytest.fixture
def with_room(site: Site) -> Site:
    """The site of a form that takes 6 GiB, which are gone afterwards."""
    if site.form.no_6_gib:
        pytest.skip(site.form.no_6_gib)
    return site


@pytest.mark.big
@pytest.mark.timeout(3600)
def test_a_file_past_the_largest_request(with_room: Site) -> None:
    """S3 takes no more than 5 GiB at once; here are 6, nearly all of them a hole."""
    site, run = with_room, with_room.run("huge")
    write_sparsely(run / "weights.bin", 6 * 1024 * MIB)
    site.deliver(run, within=1800)
    assert site.held(run) == on_disk(run)
    assert site.call("verify", str(run)).returncode == 0
    site.remove(run, "weights.bin")
    (run / "weights.bin").unlink()


def test_many_small_files(site: Site) -> None:
    """2,000 with ``make conformance``."""
    run = site.run("many")
    for n in range(2000 if os.environ.get("ARTIFACTD_CONFORMANCE") else 500):
        folder = run / f"part-{n // 250}"
        folder.mkdir(exist_ok=True)
        write(folder / f"{n}.json", 1 + n % 4096)
    site.deliver(run)
    assert site.held(run) == on_disk(run)


def test_names(site: Site) -> None:
    run = site.run("names")
    for folder in (b"", b"d#1 ?", b"\xff\\", b"deep/er/and/deep/er"):
        here = os.path.join(os.fsencode(run), folder)
        os.makedirs(here, exist_ok=True)
        for name in NAMES:
            with open(os.path.join(here, name), "wb") as f:
                f.write(folder + b"/" + name)
    site.deliver(run)
    assert site.held(run) == on_disk(run)


def test_overwriting_and_leaving_alone(site: Site) -> None:
    """Longer, shorter, empty and of the same size: the last content stands; what is the same is not sent."""
    run = site.run("overwrite")
    for n, sizes in enumerate(((1000, 9000), (9000, 1000), (500, 0), (0, 500), (700, 700))):
        write(run / f"{n}.bin", sizes[0], seed=1)
    site.deliver(run)
    for n, sizes in enumerate(((1000, 9000), (9000, 1000), (500, 0), (0, 500), (700, 700))):
        write(run / f"{n}.bin", sizes[1], seed=2)
    site.deliver(run)
    assert site.held(run) == on_disk(run)
    sent = site.sent()
    for path in run.iterdir():
        path.write_bytes(path.read_bytes())
    site.deliver(run)
    assert site.sent() == sent


def test_a_reader_sees_one_content_or_the_other(site: Site) -> None:
    run = site.run("reader")
    write(run / "weights.bin", 6 * MIB, seed=1)
    site.deliver(run)
    name = b"weights.bin"  # alone: SFTP has its next content beside it meanwhile, which no listing shows
    old = site.held(run)[name]
    write(run / "weights.bin", 6 * MIB, seed=2)
    new = wait_for(lambda: (held := site.held(run)[name]) != old and held, "it is replaced", 60)
    assert new == on_disk(run)[name]


def test_the_way_back(site: Site, tmp_path: Path) -> None:
    """``ls`` and ``pull``."""
    run = site.run("back")
    for rel in ("config.json", "models/a/MLmodel", "plots/p#1.png"):
        (run / rel).parent.mkdir(parents=True, exist_ok=True)
        write(run / rel, 3000)
    site.deliver(run)
    listed = site.call("ls", str(run))
    assert listed.returncode == 0, listed.stderr
    assert all(name in listed.stdout for name in ("config.json", "MLmodel", "p#1.png")), listed.stdout
    pulled = site.call("pull", str(run), str(tmp_path / "to"))
    assert pulled.returncode == 0, pulled.stderr
    assert on_disk(tmp_path / "to") == on_disk(run)


def test_a_run_that_is_over_is_restored(site: Site, tmp_path: Path) -> None:
    """By its manifest alone, where nobody has seen its folder."""
    run = site.run("over")
    for rel in ("config.json", "models/a/weights", "plots/p#1.png"):
        (run / rel).parent.mkdir(parents=True, exist_ok=True)
        write(run / rel, 3000)
    (run / ".done").touch()
    site.deliver(run)
    wait_for(lambda: "manifest stored" in site.program.text(), "the manifest", 60)
    run_id = json.loads(site.call("ls", str(run), "--json").stdout)[0]["run_id"]
    fresh = ("--state-dir", str(tmp_path / "fresh"))
    verified = site.call("verify", run_id, "--deep", *fresh)
    assert (verified.returncode, "4 files" in verified.stdout) == (0, True), verified.stderr
    restored = site.call("pull", "--tree", run_id, str(tmp_path / "tree"), *fresh)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    (tmp_path / "tree" / ".artifactd-run").unlink()
    assert on_disk(tmp_path / "tree") == on_disk(run)


def test_what_the_store_lost_or_altered_is_found_and_mended(site: Site) -> None:
    run = site.run("verify")
    for name in ("lost", "short", "altered", "whole"):
        write(run / name, 2000)
    site.deliver(run)
    assert site.call("verify", str(run), "--deep").returncode == 0
    site.remove(run, "lost")
    site.put(run, "short", b"1")
    site.put(run, "altered", b"x" * 2000)
    found = site.call("verify", str(run))
    assert found.returncode == 1
    assert "lost" in found.stdout
    assert "short" in found.stdout
    found = site.call("verify", str(run), "--deep")
    assert found.returncode == 1
    assert "altered" in found.stdout
    assert "whole" not in found.stdout
    assert site.call("retry", str(run)).returncode == 0
    site.deliver(run)
    assert site.held(run) == on_disk(run)


def test_a_kill_in_the_middle_of_an_upload(site: Site) -> None:
    """Before, what the store holds is the old content; after the next start it is the new, and nothing else."""
    run = site.run("killed")
    write(run / "weights.bin", 3000)
    site.deliver(run)
    write(run / "weights.bin", 200 * MIB, seed=2)
    wait_for(site.is_sending, f"it is being sent\n{site.program.text()[-2000:]}", 90)
    site.kill()
    site.deliver(run)
    assert site.held(run) == on_disk(run)
    (run / "weights.bin").unlink()


def test_check_says_that_it_works(site: Site) -> None:
    done = site.call("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not in order" not in done.stdout
