"""Presets in the configuration: their names, how they join the user's own rules, and who is named as the reason."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactd import installation
from artifactd.config import Config, ConfigError, WatchConfig, layout_of, load_config
from artifactd.config.model import DEFAULT_EXCLUDE
from artifactd.config.presets import PRESETS
from artifactd.excludes import Ignored
from artifactd.layout import Destination, Layout

PAGE = (Path(__file__).parent.parent / "docs" / "presets.md").read_text(encoding="utf-8")


def layout(preset: str | list[str], **settings: Any) -> Layout:
    return layout_of(WatchConfig.model_validate({"path": Path("/data"), "preset": preset, **settings}))


def rule(made: Layout, path: str) -> str:
    return made.place(path.encode()).rule


def problem(file: Path, preset: str) -> tuple[str, str, str, int | None]:
    file.write_text(f'state_dir = "/s"\n[[watch]]\npath = "/data"\npreset = {preset}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    (found,) = caught.value.problems
    return found.key, found.wrong, found.instead, found.line


# -- names -----------------------------------------------------------------------------------------------------------


def test_one_name_or_a_list_of_them(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    for text, names in (
        ('"keras"', ("keras",)),
        ('["keras", "mlflow", "keras"]', ("keras", "mlflow")),
        ("[]", ()),
    ):
        file.write_text(f'state_dir = "/s"\n[[watch]]\npath = "/data"\npreset = {text}\n')
        assert load_config(file).watch[0].preset == names
    assert WatchConfig(path=Path("/data")).preset == ()


def test_a_name_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_STATE_DIR", "/s")
    monkeypatch.setenv("ARTIFACTD_WATCH__0__PATH", "/data")
    monkeypatch.setenv("ARTIFACTD_WATCH__0__PRESET", '["yolo"]')
    assert load_config(None).watch[0].preset == ("yolo",)


def test_an_unknown_name_is_told_with_the_nearest(tmp_path: Path) -> None:
    known = "there are huggingface, lightning, yolo, keras, tensorboard, mlflow, xgboost, lightgbm"
    file = tmp_path / "f.toml"
    assert problem(file, '"hugingface"') == (
        "watch[0].preset", 'there is no preset "hugingface"', f'write "huggingface", the nearest; {known}', 4
    )  # fmt: skip
    assert problem(file, '["keras", "Lightning"]')[1:3] == (
        'there is no preset "Lightning"',
        f'write "lightning", the nearest; {known}',
    )
    assert problem(file, '"zzz"')[1:3] == ('there is no preset "zzz"', known)
    assert problem(file, "5")[1:3] == ("5 is no list", 'write preset = "huggingface"')


# -- how they join the user's rules ----------------------------------------------------------------------------------


def test_the_users_routes_come_first() -> None:
    made = layout("yolo", route=({"match": "confusion*.png", "artifact_path": "matrices"},))
    assert rule(made, "e/r/confusion_matrix.png") == "route confusion*.png → matrices"
    assert rule(made, "e/r/results.png") == "preset yolo: route /*.png → plots"
    assert rule(made, "e/r/args.yaml") == "preset yolo: route /args.yaml as params"
    assert rule(made, "e/r/notes.txt") == "layout {experiment}/{run}"


def test_what_a_preset_excludes_is_added_to_what_is_set_or_to_the_default() -> None:
    made = layout("keras")
    assert rule(made, "e/r/backup/x.h5") == "exclude **/backup/** (preset keras)"
    assert rule(made, "e/r/x.tmp") == "exclude **/*.tmp"
    own = layout("keras", exclude=("*.csv",))
    assert rule(own, "e/r/backup/x.h5") == "exclude **/backup/** (preset keras)"
    assert rule(own, "e/r/a.csv") == "exclude *.csv"
    assert isinstance(own.place(b"e/r/x.tmp"), Destination), "what is set replaces the default, as ever"


def test_a_folder_that_a_preset_excludes_is_not_walked() -> None:
    assert layout("keras").excluded_folder(b"e/r/saved/variables/variables_temp") == (
        "exclude **/variables/variables_temp/ (preset keras)"
    )
    assert layout("keras").excluded_folder(b"e/r/saved/variables") is None


@pytest.mark.parametrize(
    ("preset", "path", "back"),
    [
        ("yolo", "e/r/weights/epoch3.pt", "!**/weights/epoch*.pt"),
        ("yolo", "e/r/weights/epoch3.pt", "!epoch3.pt"),
        ("keras", "e/r/backup/latest.weights.h5", "!**/backup/**"),
        ("keras", "e/r/backup/latest.weights.h5", "!latest.weights.h5"),
        ("keras", "e/r/saved/variables/variables_temp/x", "!**/variables_temp/"),
        ("lightgbm", "e/r/train.bin", "!train.bin"),
        ("huggingface", "e/r/.tmpabc", "!.tmp*"),
    ],
)
def test_an_exclude_is_taken_back(preset: str, path: str, back: str) -> None:
    assert isinstance(layout(preset).place(path.encode()), Ignored)
    assert isinstance(layout(preset, exclude=(*DEFAULT_EXCLUDE, back)).place(path.encode()), Destination)
    assert isinstance(layout(preset, exclude=(back,)).place(path.encode()), Destination)


def test_taking_one_back_leaves_the_others() -> None:
    made = layout("keras", exclude=("!**/backup/**",))
    assert isinstance(made.place(b"e/r/backup/x"), Destination)
    assert isinstance(made.place(b"e/r/saved/saved_model.pb.tmp12ab"), Ignored)


def test_what_is_live_is_added_too() -> None:
    assert layout("keras").is_live(b"e/r/train.log"), "the default"
    own = layout("keras", live=())
    assert own.is_live(b"e/r/training.csv")
    assert not own.is_live(b"e/r/train.log")
    assert not own.is_live(b"training.csv/training.csv/best.keras"), "names above the run are nothing to it"


def test_several_presets_add_up() -> None:
    made = layout(["lightning", "yolo", "lightgbm"])
    assert (
        rule(made, "e/r/lightning_logs/version_0/hparams.yaml") == "preset lightning: route **/hparams.yaml as params"
    )
    assert rule(made, "e/r/weights/epoch1.pt") == "exclude **/weights/epoch*.pt (preset yolo)"
    assert rule(made, "e/r/train.bin") == "exclude **/train.bin (preset lightgbm)"
    assert made.is_live(b"e/r/lightning_logs/version_1/metrics.csv")
    assert made.is_live(b"e/r/results.csv")


def test_without_a_preset_all_is_as_it_was() -> None:
    """The digest of the rules is kept in the ledger: another one would have every file looked at again."""
    plain = Layout(
        "{experiment}/{run}", constants={}, include=["**"], exclude=DEFAULT_EXCLUDE,
        live=("**/events.out.tfevents.*", "**/*.log"), routes=[],
    )  # fmt: skip
    assert layout([]).fingerprint == plain.fingerprint
    assert layout("lightgbm").fingerprint != plain.fingerprint
    assert layout("lightgbm").fingerprint == layout("xgboost").fingerprint, "the same rules by another name"


EVENTS = "e/r/runs/Nov26_06-41-02_host/events.out.tfevents.1.host"


def test_event_files_are_metrics_where_they_are_asked_for_and_the_framework_tells_by_others() -> None:
    assert rule(layout("tensorboard"), EVENTS) == "preset tensorboard: route **/events.out.tfevents.* as metrics"
    for name in ("huggingface", "lightning", "keras", "yolo"):
        placed = layout(name).place(EVENTS.encode())
        assert isinstance(placed, Destination)
        assert placed.kind == "artifact"
        assert rule(layout([name, "tensorboard"]), EVENTS).endswith("as metrics")


def test_without_the_extra_event_files_of_a_preset_are_live_artifacts_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    made = layout(["keras", "tensorboard"])
    placed = made.place(EVENTS.encode())
    assert isinstance(placed, Destination)
    assert placed.kind == "artifact"
    assert made.is_live(EVENTS.encode())
    watches: list[dict[str, Any]] = [{"path": "/d", "preset": "tensorboard"}, {"path": "/e", "preset": "keras"}]
    watches.append({"path": "/f", "route": [{"match": "*.csv", "kind": "metrics"}]})
    watches.append({"path": "/g", "route": [{"match": "**/*tfevents*", "kind": "metrics"}]})
    of_preset, of_route = Config.model_validate({"watch": watches}).notices()
    assert of_preset.what.startswith('watch[0].preset = ["tensorboard"] needs what reads')
    assert "their scalars are not told" in of_preset.what
    assert of_route.what.startswith('watch[3].route[0].match = "**/*tfevents*" needs what reads')
    for notice in (of_preset, of_route):
        assert notice.cure == str(installation.here().with_extra("tensorboard"))
        assert str(notice) == f"{notice.what}. What mends it: {notice.cure}"


# -- what is said of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_each_does_all_that_it_says(name: str) -> None:
    assert Config.model_validate({"watch": [{"path": "/d", "preset": name}]}).notices() == ()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_page_tells_each_pattern(name: str) -> None:
    section = re.search(rf"(?ms)^## {name}$(.*?)(?=^## |\Z)", PAGE)
    assert section is not None
    rows = [line.split("|")[1] for line in section[1].splitlines() if line.startswith("| `")]
    told = {pattern for cell in rows for pattern in re.findall(r"`([^`]+)`", cell)}
    preset = PRESETS[name]
    assert told == {route.match for route in preset.routes} | {*preset.live} | {*preset.exclude}


def test_the_page_tells_what_makes_each_checkpoint_whole() -> None:
    section = re.search(r"(?ms)^## Checkpoints$(.*?)(?=^## )", PAGE)
    assert section is not None
    rows = [line.split("|")[1:] for line in section[1].splitlines() if line.startswith("| `")]
    told = {cells[0].strip(" `"): set(re.findall(r"`([^`]+)`", "".join(cells[1:]))) for cells in rows}
    globs: dict[str, set[str]] = {}
    for name, preset in PRESETS.items():
        for made in preset.checkpoints:
            members = () if made.members == ("**",) else made.members
            globs.setdefault(name, set()).update((made.marker, *(g for need in made.needs for g in need), *members))
    assert told == globs
