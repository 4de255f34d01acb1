"""The server and the store: away, flapping, full, deleted from, with other passwords; and how gently they are asked."""

from __future__ import annotations

import base64
import os
import random
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import accumulate, count, pairwise
from pathlib import Path

import pytest

from artifactd.config.model import RetryConfig
from artifactd.config.uris import embedded_uri
from artifactd.delivery.backoff import FILE_TRIES, Backoff
from conftest import MlflowServer, end_server, start_server
from faults.proxy import Fault, Proxy, uploads
from faults.table import Row
from faults.test_network import Site
from support import Oracle, Program, free_port, tree, wait_for

MAXIMUM = 1.0
SLACK = 5.0
"""Seconds that a busy machine may take for what should be at once."""

WORKERS = 4
RETRY = f'[upload]\nworkers = {WORKERS}\n[retry]\ninitial = "0.2s"\nmaximum = "{MAXIMUM:g}s"\n'
HOSTS = 100
JSON = (("Content-Type", "application/json"),)
REALM = (("WWW-Authenticate", 'Basic realm="mlflow"'),)
"""What MLflow's own basic-auth says with a 401."""


@pytest.fixture(scope="module")
def shared(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("server-faults")
    proxy = Proxy(mlflow_server.uri)
    try:
        made = place(base, proxy, Oracle(mlflow_server.uri))
        with made.program.running():
            made.program.wait_idle()
            yield made
    finally:
        proxy.close()


@pytest.fixture
def site(shared: Site, tmp_path: Path) -> Iterator[Site]:
    """The shared service, at rest, with a run folder of the test's own that holds one file."""
    wait_for(shared.stored, "the service is at rest", 60)
    folder = shared.program.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    (folder / "first").write_bytes(b"1")
    wait_for(shared.stored, "the run is made", 60)
    yield Site(shared.program, shared.proxy, shared.oracle, folder, shared.proxy.counts.repeats)
    if shared.program.status()["failed"]:  # a test that failed is no reason for the next one to
        shared.program.call("retry", "--all")


def place(base: Path, proxy: Proxy, oracle: Oracle, more: str = RETRY) -> Site:
    """A service that does not run yet, with one file."""
    program = Program(base, tracking_uri=proxy.uri, more=more)
    folder = program.drop / base.name / "r"
    folder.mkdir(parents=True)
    (folder / "first").write_bytes(b"1")
    return Site(program, proxy, oracle, folder)


def pause(seconds: float) -> None:
    moment = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= moment, f"{seconds:.1f} s are over", seconds + 30)


def puts(proxy: Proxy) -> int:
    return sum(n for (method, _), n in list(proxy.counts.requests.items()) if method == "PUT")


# -- away ------------------------------------------------------------------------------------------------------------


@contextmanager
def nobody_at(port: int) -> Iterator[list[float]]:
    """Each connection to this port is reset, as where nobody listens, and its moment is noted."""
    asked: list[float] = []
    over = threading.Event()

    def refuse(listener: socket.socket) -> None:
        while not over.is_set():
            with suppress(TimeoutError), closing(listener.accept()[0]) as connection:
                asked.append(time.monotonic())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        try:
            yield asked
        finally:
            over.set()
            thread.join()


@pytest.mark.timeout(150)
def test_a_server_that_was_away_meets_no_storm_of_requests_and_is_used_again_within_the_longest_backoff(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """An outage of an hour, accelerated: `retry.maximum` is 1 s instead of 5 min, so that 8 s are many backoffs."""
    away = 8.0
    with site.proxy.misbehaving(Fault("refuse")), nobody_at(site.proxy.port) as asked:
        site.drop("away", 300)
        begun = time.monotonic()
        assert wait_for(lambda: site.held("cannot be reached"), "status says why")["next_try"]
        pause(begun + away - time.monotonic())
        requests, before = len(asked), site.proxy.counts.total()
    healed = time.monotonic()
    wait_for(lambda: site.proxy.counts.total() > before, "the server is asked again")
    first = time.monotonic() - healed
    wait_for(lambda: puts(site.proxy) > 300, "files flow", 60)
    wait_for(site.stored, "all is delivered", 60)
    took = time.monotonic() - healed
    site.assert_exact(tmp_path / "back")
    repeats = site.proxy.counts.repeats - site.begun
    record(Row(f"server away {away:g} s, {requests} connections, asked again after {first:.1f} s", 1, 0, 0, repeats, 0,
               took))  # fmt: skip
    assert first < MAXIMUM + SLACK
    # Pauses are drawn evenly from none to one second: 16 tries of two connections in 8 s, and 24 hardly ever.
    assert 3 <= requests < 6 * away, "one try per backoff, of half a second in the mean"
    assert repeats == 0


@pytest.mark.timeout(150)
def test_a_flapping_server_costs_few_repeated_uploads_and_no_file(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    rng = random.Random(12)  # noqa: S311  (a sequence that can be made again, not a secret)
    end, downs = time.monotonic() + 15, 0
    while time.monotonic() < end:
        site.drop(f"flap-{downs}", 6)
        with site.proxy.misbehaving(Fault("refuse")):
            pause(rng.uniform(0.3, 1.0))
        downs += 1
        pause(rng.uniform(0.3, 1.0))
    healed = time.monotonic()
    wait_for(site.stored, f"all is delivered: {site.program.status()}", 60)
    took = time.monotonic() - healed
    site.assert_exact(tmp_path / "back")
    repeats = site.proxy.counts.repeats - site.begun
    record(Row("server flaps", downs, 0, 0, repeats, 0, took))
    assert repeats <= downs * WORKERS, "at most what was in flight at each fall"


def test_an_upload_whose_answer_was_lost_is_not_sent_again(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    lost = 3
    with site.proxy.misbehaving(Fault("drop", uploads, times=lost)):
        before = site.proxy.counts.wrong
        site.drop("unanswered", 6)
        wait_for(lambda: site.proxy.counts.wrong == before + lost, "the answers were lost")
        begun = time.monotonic()
        wait_for(site.stored, "all is delivered", 60)
        took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    repeats = site.proxy.counts.repeats - site.begun
    record(Row("answer of an upload lost", lost, 0, 0, repeats, 0, took))
    assert repeats == 0


def test_an_upload_that_never_arrived_is_sent_though_the_store_lists_the_same_size(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    file = site.folder / "same size"
    file.write_bytes(os.urandom(200_000))
    wait_for(site.stored, "the old content is stored")
    with site.proxy.misbehaving(Fault("cut", uploads, times=1)):
        before = site.proxy.counts.wrong
        file.write_bytes(os.urandom(200_000))
        wait_for(lambda: site.proxy.counts.wrong > before, "its upload was cut")
        begun = time.monotonic()
        wait_for(site.stored, "it is delivered")
        took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row("upload of the same size cut", 1, 0, 0, site.proxy.counts.repeats - site.begun, 0, took))


# -- deleted ---------------------------------------------------------------------------------------------------------


def test_a_run_that_was_deleted_gets_nothing_and_all_once_it_is_restored_and_retried(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    run_id = site.oracle.run(site.folder.parent.name, "r").info.run_id
    site.oracle.client.delete_run(run_id)
    before = puts(site.proxy)
    site.drop("deleted", 5)
    wait_for(lambda: site.program.status()["failed"] == 5, f"they fail: {site.program.status()}")
    said = site.held("is deleted")
    assert said is not None
    assert said["kind"] == "permanent"
    assert f"mlflow runs restore --run-id {run_id}" in site.program.call("explain", said["path"]).stdout
    assert puts(site.proxy) == before, "nothing is sent into a deleted run"
    site.oracle.client.restore_run(run_id)
    begun = time.monotonic()
    assert site.program.call("retry", str(site.folder)).returncode == 0
    wait_for(site.stored, "the retry delivers them")
    took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row("run deleted, restored, retry", 1, 0, 0, site.proxy.counts.repeats - site.begun, 0, took))


def test_an_experiment_that_was_deleted_gets_nothing_and_all_once_it_is_restored_and_retried(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    name = site.folder.parent.name
    ident = site.oracle.client.get_experiment_by_name(name).experiment_id
    site.oracle.client.delete_experiment(ident)
    before = puts(site.proxy)
    site.drop("deleted", 5)
    new = Site(site.program, site.proxy, site.oracle, site.folder.parent / "new")
    new.folder.mkdir()
    new.drop("deleted", 5)
    wait_for(lambda: site.program.status()["failed"] == 10, f"they fail: {site.program.status()}")
    for failure in site.program.status()["failures"]:
        assert failure["kind"] == "permanent"
        assert "is deleted" in failure["error"]
    assert f"mlflow experiments restore --experiment-id {ident}" in site.program.call("explain", str(new.folder)).stdout
    assert puts(site.proxy) == before, "nothing is sent into a deleted experiment"
    site.oracle.client.restore_experiment(ident)
    begun = time.monotonic()
    assert site.program.call("retry", str(site.folder.parent)).returncode == 0
    wait_for(site.stored, "the retry delivers them")
    took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    new.assert_exact(tmp_path / "new")
    record(Row("experiment deleted, restored, retry", 1, 0, 0, site.proxy.counts.repeats - site.begun, 0, took))


# -- full ------------------------------------------------------------------------------------------------------------

FILE = 256 * 1024
SMALL = 8 * FILE
LARGE = 64 * FILE
FULL_FILES = 12


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A filesystem at `folder` that is too small; what comes back makes it larger."""
    if os.geteuid() != 0:
        pytest.skip("a mount needs root")
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder], check=True)
    try:
        yield lambda: mount_again(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount_again(folder: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={LARGE}", folder], check=True)


def whole(folder: Path, store: Path) -> int:
    """How many of the folder's files stand whole in the store, whatever they are called there."""
    contents = set(tree(folder).values())
    return sum(content in contents for content in tree(store).values())


@pytest.mark.root
@pytest.mark.timeout(150)
def test_a_store_without_space_is_said_and_takes_the_rest_once_there_is_some(
    tmp_path: Path, record: Callable[[Row], None]
) -> None:
    store = tmp_path / "store"
    with small_disk(store) as make_space:
        program = Program(tmp_path, more=f'[mlflow]\nartifact_location = "{store}"\n{RETRY}')
        folder = program.drop / "full" / "r"
        folder.mkdir(parents=True)
        with program.running():
            for n in range(FULL_FILES):
                (folder / f"f{n}").write_bytes(os.urandom(FILE))
            wait_for(
                lambda: any("no space" in f["error"] for f in program.status().get("failures", ())),
                f"status says why: {program.text()[-2000:]}", 60,
            )  # fmt: skip
            status = program.status()
            assert status["failed"] == 0, status
            assert 0 < status["stored"] <= whole(folder, store) < FULL_FILES
            make_space()
            begun = time.monotonic()
            wait_for(lambda: program.status()["stored"] == FULL_FILES, f"all is stored: {program.status()}", 60)
            took = time.monotonic() - begun
        oracle = Oracle(embedded_uri(program.state))
        assert oracle.files(oracle.run("full", "r").info.run_id, tmp_path / "back") == tree(folder)
    assert "Traceback" not in program.text()
    record(Row("embedded store full", 1, 0, 0, None, 0, took))


@pytest.mark.root
@pytest.mark.timeout(240)
def test_a_server_whose_disk_is_full_for_long_takes_the_rest_by_itself_once_there_is_space(
    tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """All that the server says is 500, to every upload; 'for long' is for more tries than a single bad file gets."""
    home, port, quick = tmp_path / "server", free_port(), '[retry]\ninitial = "0.1s"\nmaximum = "0.3s"\n'
    with small_disk(home / "artifacts") as make_space:
        server = start_server(home, port)
        proxy = Proxy(f"http://127.0.0.1:{port}")
        try:
            made = place(tmp_path, proxy, Oracle(f"http://127.0.0.1:{port}"), quick)
            with made.program.running():
                made.program.wait_idle()
                for n in range(FULL_FILES):
                    (made.folder / f"f{n}").write_bytes(os.urandom(FILE))

                def tried() -> bool:
                    """Some file was tried more often than one gets that fails alone; or it was given up."""
                    tries = max(n for (method, _), n in list(proxy.counts.requests.items()) if method == "PUT")
                    return tries > FILE_TRIES or made.program.status()["failed"] > 0

                wait_for(tried, f"many tries: {made.program.status()}", 90)
                status = made.program.status()
                assert status["stored"] <= whole(made.folder, home / "artifacts") < FULL_FILES
                make_space()
                begun = time.monotonic()
                assert status["failed"] == 0, f"a full disk costs time, never a file: {status['failures'][:2]}"
                wait_for(made.stored, f"all is stored: {made.program.status()}", 60)
                took = time.monotonic() - begun
                made.assert_exact(tmp_path / "back")
        finally:
            proxy.close()
            end_server(server)
    record(Row("server's disk full", 1, 0, 0, proxy.counts.repeats, 0, took))


# -- passwords and pauses --------------------------------------------------------------------------------------------


@pytest.mark.timeout(150)
def test_credentials_that_expired_are_waited_for_and_new_ones_taken_from_the_file_without_a_restart(
    proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    site = place(tmp_path, proxy, Oracle(mlflow_server.uri))
    home = tmp_path / "home"
    (home / ".mlflow").mkdir(parents=True)

    def know(password: str) -> None:
        """What the user writes."""
        lines = ("[mlflow]", "mlflow_tracking_username = joe", f"mlflow_tracking_password = {password}")
        (home / ".mlflow" / "credentials").write_text("\n".join(lines) + "\n")

    def expect(password: str) -> Fault:
        """What the server wants."""
        right = "Basic " + base64.b64encode(f"joe:{password}".encode()).decode()

        def knows(headers: Mapping[str, str]) -> bool:
            return headers.get("Authorization") == right

        return Fault("answer", status=401, headers=REALM, body=b"You are not authenticated.", spares=knows)

    def paused(stored: int) -> None:
        said = wait_for(lambda: site.held("401"), f"status says why: {site.program.text()[-2000:]}")
        assert said["kind"] == "paused"
        assert said["next_try"]
        status = site.program.status()
        assert (status["stored"], status["failed"]) == (stored, 0)

    waits = []
    know("old")
    with site.program.running(HOME=str(home)):
        for expired, password in enumerate(("new", "newer")):
            proxy.start(expect(password))
            site.drop(f"expired-{expired}", 5)
            paused(7 * expired)
            know(password)
            begun = time.monotonic()
            wait_for(site.stored, f"it is delivered by itself: {site.program.status()}", 60)
            waits.append(time.monotonic() - begun)
            proxy.heal()
            (site.folder / f"between-{expired}").write_bytes(b"%d" % expired)
            wait_for(site.stored, "the service is at rest")
        assert site.program._service is not None
        assert site.program._service.poll() is None
    site.assert_exact(tmp_path / "back")
    record(Row("credentials expired, renewed in the file", 2, 0, 0, proxy.counts.repeats, 0, max(waits)))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_in_json_that_is_not_mlflows_pauses_and_fails_nothing(
    status: int, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """What API gateways say of an expired token. MLflow's client drops the status of such an answer."""
    before = site.program.status()["stored"]
    with site.proxy.misbehaving(Fault("answer", status=status, headers=JSON, body=b'{"message": "token expired"}')):
        site.drop("refused", 5)
        wait_for(lambda: site.program.status().get("failures"), "status says why")
        for failure in site.program.status()["failures"]:
            assert failure["kind"] == "paused", failure
            assert str(status) in failure["error"] or "token expired" in failure["error"]
        assert site.program.status()["stored"] == before
    begun = time.monotonic()
    wait_for(site.stored, f"it is delivered by itself: {site.program.status()}")
    took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row(f"{status} of a gateway, in JSON", 1, 0, 0, site.proxy.counts.repeats - site.begun, 0, took))


@pytest.mark.timeout(150)
def test_the_pause_that_a_server_asks_for_is_kept_up_to_the_maximum(
    proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    maximum, early = 5.0, 0.1
    site = place(tmp_path, proxy, Oracle(mlflow_server.uri), f'[retry]\ninitial = "0.2s"\nmaximum = "{maximum:g}s"\n')
    shortest = {}
    with site.program.running():
        site.program.wait_idle()
        for asked, pauses in ((2, 3), (3600, 2)):
            moments: list[float] = []

            def note(_method: str, _path: str, moments: list[float] = moments) -> bool:
                moments.append(time.monotonic())
                return True

            headers = (("Retry-After", str(asked)),)
            with proxy.misbehaving(Fault("answer", note, status=429, headers=headers, body=b"{}")):
                site.drop(f"later-{asked}", 1)  # several may go out in two batches at once, before the answer comes
                wait_for(lambda n=pauses, m=moments: len(m) > n, f"some pauses: {moments}", 60)  # type: ignore[misc]
                gaps = [later - sooner for sooner, later in pairwise(moments)]
            shortest[asked] = min(gaps)
            assert min(gaps) >= min(asked, maximum) - early, f"Retry-After: {asked}: {gaps}"
            assert max(gaps) < maximum + SLACK, f"Retry-After: {asked}: {gaps}"
            begun = time.monotonic()
            wait_for(site.stored, "all is delivered", 60)
            took = time.monotonic() - begun
    site.assert_exact(tmp_path / "back")
    record(Row(f"429, Retry-After 2: shortest pause {shortest[2]:.1f} s", 2, 0, 0, proxy.counts.repeats, 0, took))


def test_a_hundred_hosts_do_not_come_back_in_the_same_second(record: Callable[[Row], None]) -> None:
    """The real policy at its defaults; hosts and time are simulated: an outage of ten minutes, met by all at once."""
    policy = RetryConfig()
    backoff = Backoff(policy.initial, policy.maximum)
    outage, rounds = 600.0, 20
    state = random.getstate()
    random.seed(1)  # tenacity draws from the module's own generator
    try:
        firsts = [[_first_try_after(outage, backoff) for _ in range(HOSTS)] for _ in range(rounds)]
    finally:
        random.setstate(state)
    worst = max(max(Counter(int(at) for at in hosts).values()) for hosts in firsts)
    every = sorted(at for hosts in firsts for at in hosts)
    record(Row(
        f"{HOSTS} hosts after {outage / 60:g} min (simulated): at most {worst} in one second, half within "
        f"{statistics.median(every):.0f} s, all within {every[-1]:.0f} s", rounds,
    ))  # fmt: skip
    assert every[-1] < policy.maximum
    assert worst <= 0.07 * HOSTS


def _first_try_after(outage: float, backoff: Backoff) -> float:
    """Seconds from the outage's end to a host's next try; it failed at the outage's first moment, and since."""
    tries = accumulate(backoff.delay(attempt) for attempt in count(1))
    return next(at - outage for at in tries if at >= outage)
