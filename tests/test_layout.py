"""Layouts: every file has one place or one reason, different files have different places, and globs are gitignore's."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artifactd.excludes import Exclude, Ignored, LayoutError
from artifactd.globs import check_glob
from artifactd.layout import Destination, Layout, Route, Segment, parse_template
from artifactd.names import decode_path

DEFAULT = "{experiment}/{run}"


def make(
    template: str = DEFAULT,
    *,
    include: Sequence[str] = ("**",),
    exclude: Sequence[str | Exclude] = (),
    live: Sequence[str] = (),
    routes: Sequence[Route] = (),
    **constants: str,
) -> Layout:
    return Layout(template, constants=constants, include=include, exclude=exclude, live=live, routes=routes)


LAYOUTS = [
    make(DEFAULT),
    make("{run}", experiment="vision"),
    make("{user}/{experiment}/{run}"),
    make("a/{experiment}/{run}"),
    make("{experiment}/{run}/b"),
    make("{experiment}", run="nightly"),
    make(".", experiment="vision", run="today"),
    make(DEFAULT, include=["*.log", "a/"], exclude=["*.tmp", "b/", "!b/a", "**/.git/"]),
]

levels = st.sampled_from([b"a", b"b", b".git", b"x.tmp", b"y.log", b"\xff", b"#", b"_x23_", b" ", b"\n", b"a\n", b"a:"])
wild = (
    st.binary(min_size=1, max_size=300)
    .map(lambda name: name.translate(None, b"/\0"))
    .filter(lambda name: name not in {b"", b".", b".."})
)
files = st.lists(levels | wild, min_size=1, max_size=6).map(b"/".join)
layouts = st.sampled_from(LAYOUTS)


@given(layouts, st.sets(files, max_size=30))
def test_no_two_files_share_a_place(layout: Layout, tree: set[bytes]) -> None:
    placed = [place for rel in tree if isinstance(place := layout.place(rel), Destination)]
    assert len({(place.experiment, place.folder, place.artifact_path) for place in placed}) == len(placed)


@given(layouts, files)
@example(LAYOUTS[0], b"a/b/logs/logs")
def test_decoding_gives_the_path_within_the_run_folder_back(layout: Layout, rel: bytes) -> None:
    place = layout.place(rel)
    if isinstance(place, Destination):
        inner = decode_path(place.artifact_path)
        assert (place.folder + b"/" + inner if place.folder else inner) == rel
        assert layout.run_folder(rel) == place.folder
        assert place.experiment
        assert place.run
    else:
        assert place.rule


@given(layouts, st.binary(max_size=40) | st.lists(st.sampled_from([b"/", b".", b"a", b"\0", b"\n"])).map(b"".join))
def test_any_bytes_have_an_answer(layout: Layout, rel: bytes) -> None:
    assert isinstance(layout.place(rel), (Destination, Ignored))
    assert isinstance(layout.is_live(rel), bool)
    assert isinstance(layout.excluded_folder(rel), (str, type(None)))
    assert isinstance(layout.run_folder(rel), (bytes, type(None)))


@given(layouts, files, files)
@example(LAYOUTS[-1], b"x.tmp", b"a/y.log")
@example(LAYOUTS[3], b"b", b"a/a/a")
def test_below_an_excluded_folder_every_file_is_ignored(layout: Layout, folder: bytes, rel: bytes) -> None:
    if layout.excluded_folder(folder) is not None:
        assert isinstance(layout.place(folder + b"/" + rel), Ignored)


def test_a_path_of_5000_levels_has_an_answer() -> None:
    assert isinstance(make(exclude=["!x", "*.tmp"]).place(b"a/" * 5000 + b"b"), Destination)


@pytest.mark.parametrize(
    ("layout", "rel", "expected"),
    [
        (make(), b"e/r/a/b.txt", ("e", "r", b"e/r", (), "a/b.txt", "layout {experiment}/{run}")),
        (LAYOUTS[1], b"r/b", ("vision", "r", b"r", (), "b", "layout {run}")),
        (
            LAYOUTS[2],
            b"ana/e/r/b",
            ("e", "r", b"ana/e/r", (("user", "ana"),), "b", "layout {user}/{experiment}/{run}"),
        ),
        (LAYOUTS[3], b"a/e/r/b", ("e", "r", b"a/e/r", (), "b", "layout a/{experiment}/{run}")),
        (LAYOUTS[4], b"e/r/b/c", ("e", "r", b"e/r/b", (), "c", "layout {experiment}/{run}/b")),
        (LAYOUTS[5], b"e/a/c", ("e", "nightly", b"e", (), "a/c", "layout {experiment}")),
        (LAYOUTS[6], b"a/b", ("vision", "today", b"", (), "a/b", "layout .")),
        (
            make(run="unused"),
            b"\xff/a\nb/#",
            ("_xFF_", "a_x0A_b", b"\xff/a\nb", (), "_x23_", "layout {experiment}/{run}"),
        ),
        (make("{run}/{experiment}"), b"r/e/c", ("e", "r", b"r/e", (), "c", "layout {run}/{experiment}")),
    ],
)
def test_where_a_file_goes(
    layout: Layout, rel: bytes, expected: tuple[str, str, bytes, tuple[tuple[str, str], ...], str, str]
) -> None:
    experiment, run, folder, names, path, rule = expected
    assert layout.place(rel) == Destination(experiment, run, folder, names, path, "artifact", rule)


def test_a_rule_that_the_user_did_not_write_says_so() -> None:
    layout = make(
        exclude=[Exclude("/*/*/**/backup/**", "exclude **/backup/** (preset x)"), "!kept"],
        routes=[Route("*.png", "plots", "artifact", "preset x"), Route("a.csv", None, "metrics", "preset x")],
    )
    assert layout.place(b"e/r/backup/a").rule == "exclude **/backup/** (preset x)"
    assert layout.place(b"e/r/backup/kept").rule == f"layout {DEFAULT}"
    assert layout.place(b"e/r/a.png").rule == "preset x: route *.png → plots"
    assert layout.place(b"e/r/a.csv").rule == "preset x: route a.csv as metrics"
    with pytest.raises(LayoutError, match=r"exclude '\[a'"):
        make(exclude=[Exclude("[a", "exclude [a (preset x)")])


@pytest.mark.parametrize(
    ("layout", "rel", "rule"),
    [
        (make(), b"top.txt", "above the run level of {experiment}/{run}"),
        (make(), b"e/file.txt", "above the run level of {experiment}/{run}"),
        (
            make("projects/{experiment}/{run}"),
            b"other/e/r/f",
            "not in 'projects' of layout projects/{experiment}/{run}",
        ),
        (make("projects/{experiment}/{run}"), b"other/f", "not in 'projects' of layout projects/{experiment}/{run}"),
        (make("projects/{experiment}/{run}"), b"projects/f", "above the run level of projects/{experiment}/{run}"),
        (make(exclude=["**/*.tmp", "*.part"]), b"e/r/a.part", "exclude *.part"),
        (make(exclude=["*.tmp"], include=["*.log"]), b"e/a.tmp", "exclude *.tmp"),
        (make(exclude=["e/"]), b"e/r/a/b", "exclude e/"),
        (make(include=["*.log"]), b"e/r/a.txt", "not in include"),
        (make(), b"", "not the path of a file below the watched folder"),
        (make(), b"/e/r/f", "not the path of a file below the watched folder"),
        (make(), b"e//r/f", "not the path of a file below the watched folder"),
        (make(), b"e/r/f/", "not the path of a file below the watched folder"),
        (make(), b"e/r/../f", "not the path of a file below the watched folder"),
        (make(), b"e/r/./f", "not the path of a file below the watched folder"),
        (make(), b"e/r/\0", "not the path of a file below the watched folder"),
    ],
)
def test_why_a_file_is_ignored(layout: Layout, rel: bytes, rule: str) -> None:
    assert layout.place(rel) == Ignored(rule)


ROUTES = [
    Route("best.png", None, "artifact"),
    Route("*.png", "plots", "artifact"),
    Route("metrics.json", None, "metrics"),
    Route("weights/**", "model files/é#", "model"),
    Route("/flat/", ".", "artifact"),
    Route("/bare/", "", "dataset"),
    Route("*.csv", "a/a", "artifact"),
]


@pytest.mark.parametrize(
    ("inner", "path", "kind", "rule"),
    [
        (b"a/best.png", "a/best.png", "artifact", "route best.png"),
        (b"a/loss.png", "plots/loss.png", "artifact", "route *.png → plots"),
        (b"plots", "plots", "artifact", "layout {experiment}/{run}"),
        (b"a.png/plots", "plots/_x_/plots", "artifact", "route *.png → plots"),
        (b"x/metrics.json", "x/metrics.json", "metrics", "route metrics.json as metrics"),
        (b"weights/a/w\xff", "model files/é_x23_/w_xFF_", "model", "route weights/** → model files/é# as model"),
        (b"flat/a/b", "b", "artifact", "route /flat/ → ."),
        (b"bare/a", "a", "dataset", "route /bare/ → . as dataset"),
        (b"x.csv", "a/a/x.csv", "artifact", "route *.csv → a/a"),
        (b"x/flat/a", "x/flat/a", "artifact", "layout {experiment}/{run}"),
        (b"\xff\n.png", "plots/_xFF__x0A_.png", "artifact", "route *.png → plots"),
        (b"a.png\n", "a.png_x0A_", "artifact", "layout {experiment}/{run}"),
    ],
)
def test_the_first_route_that_matches_wins(inner: bytes, path: str, kind: str, rule: str) -> None:
    layout = make(routes=ROUTES)
    role = kind if kind in ("metrics", "dataset") else ""
    assert layout.place(b"e/weights/" + inner) == Destination("e", "weights", b"e/weights", (), path, kind, rule, role)


def test_a_datasets_role_says_what_it_is_used_for() -> None:
    placed = make(routes=[Route("*.csv", None, "dataset", context="training")]).place(b"e/r/a.csv")
    assert isinstance(placed, Destination)
    assert (placed.kind, placed.role) == ("dataset", "dataset:training")


@pytest.mark.parametrize(
    ("layout", "rel", "folder"),
    [
        (make(), b"", None),
        (make(), b"e", None),
        (make(), b"e/r", b"e/r"),
        (make(), b"e/r/a/b", b"e/r"),
        (make(".", experiment="e", run="r"), b"", b""),
        (make(".", experiment="e", run="r"), b"a/b", b""),
        (make("p/{experiment}/{run}"), b"q/e/r/f", None),
        (make("p/{experiment}/{run}"), b"p/e/r/f", b"p/e/r"),
    ],
)
def test_which_run_folder_a_path_lies_in(layout: Layout, rel: bytes, folder: bytes | None) -> None:
    assert layout.run_folder(rel) == folder


def test_folders_that_a_scan_can_leave_out() -> None:
    layout = make("p/{experiment}/{run}", exclude=["**/.git/", "data/**", "*.tmp"])
    assert layout.excluded_folder(b"") is None
    assert layout.excluded_folder(b"p") is None
    assert layout.excluded_folder(b"p/e/r/.git") == "exclude **/.git/"
    assert layout.excluded_folder(b"p/e/r/.git/objects/aa") == "exclude **/.git/"
    assert layout.excluded_folder(b"p/x.tmp/a") == "exclude *.tmp"
    assert layout.excluded_folder(b"data") == "exclude data/**"
    assert layout.excluded_folder(b"q") == "not in 'p' of layout p/{experiment}/{run}"
    assert layout.excluded_folder(b"p/q") is None


def test_a_folder_with_exceptions_is_looked_into() -> None:
    layout = make(".", exclude=["data/**", "!data/keep"], experiment="e", run="r")
    assert layout.excluded_folder(b"data") is None
    assert layout.place(b"data/drop/a") == Ignored("exclude data/**")
    assert isinstance(layout.place(b"data/keep"), Destination)


def test_live_files() -> None:
    layout = make(live=["**/events.out.tfevents.*", "*.log", "e/now/"])
    live = [b"e/r/events.out.tfevents.1.h", b"train.log", b"e/r/\xff\n.log", b"e/now/a", b"e/a.log/b"]
    assert all(layout.is_live(rel) for rel in live)
    assert not any(layout.is_live(rel) for rel in [b"e/r/a.txt", b"a.log\n", b"e/now", b"events.out", b""])


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.tmp", b"\xff.tmp", True),
        ("caf?", b"caf\xe9", True),
        ("caf?", "café".encode(), True),
        ("caf[é]", "café".encode(), True),
        ("caf[!e]", b"caf\xe9", True),
        ("caf\udce9", b"caf\xe9", True),
        ("*.tmp", b"a\nb.tmp", True),
        ("*.tmp", b"a.tmp\n", False),
        ("a?b", b"a\nb", True),
        ("\\#a", b"#a", True),
        ("\\!a", b"!a", True),
        ("a\\*", b"a*", True),
        ("a\\*", b"ab", False),
        ("A", b"a", False),
    ],
)
def test_globs_match_any_name(pattern: str, name: bytes, matches: bool) -> None:
    assert isinstance(make(exclude=[pattern]).place(b"e/r/" + name), Ignored) is matches


def test_excludes_are_what_git_makes_of_them(tmp_path: Path) -> None:
    """Random patterns, each list judged by git itself on a real tree."""
    seeded = random.Random(3)  # noqa: S311 - a repeatable choice of patterns, no secret
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    folders = ["", *(f"{a}/" for a in "abc"), *(f"{a}/{b}/" for a in "abc" for b in ("a", "foo")), "a/foo/a/"]
    paths = [folder + name for folder in folders for name in ("foo.txt", "x.tmp", "keep")]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    words = ["a", "b", "foo", "*", "**", "*.tmp", "?", "keep", "f*", "[ab]", "[!a]", "foo.txt"]
    judged = 0
    for _ in range(100):
        lines = ["/".join(seeded.choices(words, k=seeded.choice([1, 1, 2, 3]))) for _ in range(seeded.randint(1, 4))]
        lines = [seeded.choice(["", "", "/", "!"]) + line + seeded.choice(["", "", "/"]) for line in lines]
        lines = [line for line in lines if check_glob(line) is None]
        (tmp_path / ".git/info/exclude").write_text("\n".join(lines))
        command = ["git", "-c", "core.excludesFile=", "check-ignore", "--no-index", "-z", "--stdin"]
        git = subprocess.run(command, cwd=tmp_path, input="\0".join(paths), capture_output=True, text=True, check=False)
        assert git.stderr == ""
        layout = make(".", exclude=lines, experiment="e", run="r")
        ignored = [path for path in paths if isinstance(layout.place(os.fsencode(path)), Ignored)]
        assert ignored == git.stdout.split("\0")[:-1], lines
        judged += len(ignored)
    assert judged > 100


@pytest.mark.parametrize("pattern", ["", "a[", "a//b"])
def test_a_glob_that_cannot_be_used_is_named_with_its_key(pattern: str) -> None:
    with pytest.raises(LayoutError) as refused:
        make(exclude=["*.tmp", pattern])
    assert str(refused.value) == f"exclude '{pattern}': {check_glob(pattern)}"


def test_templates() -> None:
    assert parse_template(".") == ()
    assert parse_template("projects/{user}/{run}") == (
        Segment("projects", is_placeholder=False),
        Segment("user", is_placeholder=True),
        Segment("run", is_placeholder=True),
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "layout '': a level is empty"),
        ("/{run}", "layout '/{run}': a level is empty"),
        ("{experiment}/{run}/", "a level is empty; write names joined by single '/'"),
        ("{experiment}//{run}", "a level is empty"),
        ("./{run}", "'.' is no folder name; '.' is a layout only when it stands alone"),
        ("../{run}", "'..' is no folder name"),
        ("a\0/{run}", "is no folder name"),
        ("{parent}/{day}/{run}", "{parent} is the level of runs that hold runs: write {parent}/{run} last"),
        ("{parent}/run", "{parent} is the level of runs that hold runs"),
        ("{run}/{parent}", "{parent} is the level of runs that hold runs"),
        ("run-{run}", "'run-{run}' is no literal name; write a lower-case {name}"),
        ("{Run}", "'{Run}' is no literal name"),
        ("{}", "'{}' is no literal name"),
        ("*/{run}", "'*' is no literal name; write a lower-case {name} for a level that varies"),
        ("{run}/{run}", "a {name} stands there twice"),
    ],
)
def test_a_layout_that_cannot_be_used_is_named(template: str, reason: str) -> None:
    with pytest.raises(LayoutError) as refused:
        parse_template(template)
    assert reason in str(refused.value)
    assert f"layout '{template}'" in str(refused.value)


def test_what_the_layout_does_not_name_must_be_set() -> None:
    with pytest.raises(LayoutError, match=r"layout '\{run\}' has no \{experiment\}: add that level, or set experiment"):
        make("{run}", run="x")
    with pytest.raises(LayoutError, match=r"has no \{run\}"):
        make(".", experiment="x", run="")


def test_rules_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(LayoutError, match="include is empty"):
        make(include=[])
    with pytest.raises(LayoutError, match="include '!a': only exclude can have exceptions with '!'"):
        make(include=["**", "!a"])
    with pytest.raises(LayoutError, match="live '!a': only exclude"):
        make(live=["!a"])
    with pytest.raises(LayoutError, match="route '!a': only exclude"):
        make(routes=[Route("!a", None, "artifact")])
    for path in ("/plots", "plots/", "a//b", "../a", "a/.", "a\0"):
        with pytest.raises(LayoutError, match=r"route \*\.png: artifact_path '.+' is no folder of a run"):
            make(routes=[Route("*.png", path, "artifact")])


def test_the_fingerprint_tells_rules_apart_and_lasts() -> None:
    others = [
        make("{experiment}/{run}/a"),
        make("{run}", experiment="a"),
        make("{run}", experiment="b"),
        make(include=["*.tmp"]),
        make(exclude=["*.tmp"]),
        make(live=["*.tmp"]),
        make(exclude=["a", "b"]),
        make(exclude=["b", "a"]),
        make(routes=[Route("*.png", "plots", "artifact")]),
        make(routes=[Route("*.png", "plots", "dataset")]),
        make(routes=[Route("*.png", "", "artifact")]),
        make(routes=[Route("*.png", None, "artifact")]),
        make(),
    ]
    assert len({layout.fingerprint for layout in others}) == len(others)
    assert make(run="unused").fingerprint == make().fingerprint
    assert make("caf\udce9/{run}", experiment="e").fingerprint


def test_a_level_of_parents_has_runs_and_the_runs_in_them() -> None:
    sweep = make("{experiment}/{parent}/{run}")
    above, within = sweep.place(b"e/sweep/summary.json"), sweep.place(b"e/sweep/t1/plots/a.png")
    rule = "layout {experiment}/{parent}/{run}"
    assert above == Destination("e", "sweep", b"e/sweep", (), "summary.json", "artifact", rule, nests=True)
    assert within == Destination(
        "e", "t1", b"e/sweep/t1", (("parent", "sweep"),), "plots/a.png", "artifact", rule, parent=b"e/sweep"
    )
    assert [sweep.run_folder(rel) for rel in (b"", b"e", b"e/sweep", b"e/sweep/t1", b"e/sweep/t1/plots")] == [
        None, None, b"e/sweep", b"e/sweep/t1", b"e/sweep/t1"
    ]  # fmt: skip
    assert sweep.place(b"e.csv") == Ignored("above the run level of {experiment}/{parent}/{run}")
    found = sweep.run(b"e/sweep"), sweep.run(b"e/sweep/t1")
    assert [(r.run, r.parent, r.nests) for r in found if isinstance(r, Destination)] == [
        ("sweep", None, True), ("t1", b"e/sweep", False)
    ]  # fmt: skip


def test_a_parent_with_a_constant_experiment_and_literal_levels() -> None:
    sweep = make("jobs/{parent}/{run}", experiment="vision")
    above, within = sweep.place(b"jobs/s/x"), sweep.place(b"jobs/s/t/x")
    assert isinstance(above, Destination)
    assert isinstance(within, Destination)
    assert (above.experiment, above.run, within.parent) == ("vision", "s", b"jobs/s")
    assert isinstance(sweep.place(b"other/s/x"), Ignored)
    assert not isinstance(make().place(b"e/r/x"), Ignored)


def test_no_two_files_of_a_sweep_share_a_place() -> None:
    sweep = make("{parent}/{run}", experiment="e")
    tree = [b"s/a", b"s/a/b", b"s/a/a", b"s/b/a", b"t/a", b"s/a/s/a"]
    placed = [sweep.place(rel) for rel in tree]
    keys = {(p.folder, p.artifact_path) for p in placed if isinstance(p, Destination)}
    assert len(keys) == len(tree)
