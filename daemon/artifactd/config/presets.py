"""Presets: what well-known frameworks write, as routes, live and exclude patterns; and how they join the user's own.

Pure data and one rule. docs/presets.md is the table for people, and a test keeps both the same.

Patterns are gitignore globs on the path *within the run folder*, so that an experiment that happens to be called
``backup`` or ``logs`` is none of theirs. What is large and yet a result (optimizer states) is not excluded: that is for
the user to decide, and the page says how.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from artifactd.checkpoints import Checkpoint
from artifactd.config.problems import Mistake, shown
from artifactd.excludes import Exclude
from artifactd.layout import Route
from artifactd.reading.known import RESULTS, STATE, is_installed

_EVENTS = "**/events.out.tfevents.*"
"""TensorBoard's event files: appended to for the whole training; torch's writer closes them after each flush (64 times
in 3 s), TensorFlow's never until the end. So neither closing nor being open says that they are done."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What one framework writes.

    Attributes:
        routes: Where files go and what they are; the first that matches wins.
        live: Globs of growing files.
        exclude: Globs of what is no result. No exceptions: taking back is for the user.
        checkpoints: Those of several files, whose marker goes last.
    """

    routes: tuple[Route, ...] = ()
    live: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """A watch's rules with those of its presets.

    Attributes:
        routes: The first that matches wins.
        live: Globs on the path below the watched folder.
        exclude: The last that matches decides.
        checkpoints: On the path within the run folder.
    """

    routes: tuple[Route, ...]
    live: tuple[str, ...]
    exclude: tuple[str | Exclude, ...]
    checkpoints: tuple[Checkpoint, ...]


def _own_folder(match: str, role: str = "artifact") -> Route:
    """A file that keeps its folder."""
    kind, _, context = role.partition(":")
    return Route(match, None, kind, context=context)


# transformers' Trainer.
_HUGGINGFACE = Preset(
    routes=(
        # In each checkpoint, with all that was logged until then; beside them if the script saves it.
        _own_folder("**/trainer_state.json", STATE),
        # It repeats what train_results.json, eval_results.json, … say.
        _own_folder("**/all_results.json"),
        # One flat object each, written once when its phase ends: the last values, without a step.
        _own_folder("**/*_results.json", RESULTS),
    ),
    live=(_EVENTS,),
    exclude=(
        # safetensors: made with its full size, then filled, then renamed: its size is final before there is data.
        "**/.tmp*",
        # A checkpoint under construction, in versions that build it beside its place.
        "**/tmp-checkpoint-*",
    ),
    checkpoints=(
        # Weights whole or in shards; of earlier versions; PEFT's; FSDP's; DeepSpeed's.
        Checkpoint(
            "**/checkpoint-*/trainer_state.json",
            (
                (
                    "model*.safetensors",
                    "pytorch_model*.bin",
                    "adapter_model.*",
                    "pytorch_model*/.metadata",
                    "global_step*/",
                ),
            ),
            indexed=True,
        ),
    ),
)

# pytorch-lightning. Its checkpoints come by a rename from $TMPDIR, or in place where that is another filesystem: then
# the settle time and the test for open files tell when they are whole, and there is no name to exclude.
_LIGHTNING = Preset(
    routes=(
        # In each version folder: two loggers make two, with the same content.
        _own_folder("**/hparams.yaml", "params"),
        # Rewritten whole when a column appears.
        _own_folder("**/metrics.csv", "metrics"),
    ),
    live=(_EVENTS, "**/metrics.csv"),
    # In shards (FSDP, ModelParallelStrategy) it is a folder: torch writes .metadata last, and Lightning then meta.pt.
    checkpoints=(Checkpoint("**/*.ckpt/meta.pt", ((".metadata",), ("*.distcp",))),),
)

# Ultralytics. `/`: of the training whose folder is the run folder; those of further ones below it are not mixed in.
_YOLO = Preset(
    routes=(
        # All settings, written at the start.
        _own_folder("/args.yaml", "params"),
        # A row for each epoch.
        _own_folder("/results.csv", "metrics"),
        # Some twenty pictures lie beside these. One folder only, so that no two can have one name.
        Route("/*.png", "plots", "artifact"),
        Route("/*.jpg", "plots", "artifact"),
    ),
    # Opened, appended to and closed each epoch.
    live=(_EVENTS, "**/results.csv"),
    # One of full size for each save_period epochs, besides best.pt and last.pt, which shrink to a fifth at the end.
    exclude=("**/weights/epoch*.pt",),
)

# Keras 3. `.keras` and `.h5` go straight to their names, without a temporary one.
_KERAS = Preset(
    # CSVLogger's usual name.
    routes=(_own_folder("**/training.csv", "metrics"),),
    # training.csv: held open for the whole training, and 0 bytes long until its first epoch ends. Not all of logs/: of
    # what is there only event files grow, and of a live model a half-written state would be sent.
    live=(_EVENTS, "**/training.csv"),
    exclude=(
        # BackupAndRestore: rewritten each epoch, deleted when the training succeeds.
        "**/backup/**",
        # SavedModel's parts (`*.tempstate*` among them) before they are joined and renamed.
        "**/variables/variables_temp/",
        # saved_model.pb and fingerprint.pb before they are renamed: `.pb.tmp` and hex digits.
        "**/*.pb.tmp*",
    ),
    # SavedModel. It may be a folder in which training goes on to write other files: these are not waited for.
    checkpoints=(
        Checkpoint(
            "**/fingerprint.pb",
            (("/saved_model.pb",), ("/variables/variables.index",), ("/variables/variables.data-*",)),
            members=("/*.pb", "/variables/**", "/assets/**", "/assets.extra/**"),
        ),
    ),
)

# SummaryWriter and its like: add_scalars and add_hparams make subfolders with event files of their own. The presets of
# frameworks leave event files at that: what stands in them is told by other files of theirs, or would be told twice.
_TENSORBOARD = Preset(routes=(_own_folder(_EVENTS, "metrics"),), live=(_EVENTS,))

# `mlflow.<flavour>.save_model`. The folder has any name; its MLmodel says what it is. (That one is not written last:
# the environment's files follow up to 8 s later.)
_MLFLOW = Preset(routes=(_own_folder("**/MLmodel", "model"),))

# The training data once more, in the library's own format, as save_binary writes it.
_BINARY_DATA = "**/train.bin"
# Boosters are truncated and written; LightGBM opens each twice. Both are done when they are at rest.
_XGBOOST = Preset(exclude=(_BINARY_DATA,))
_LIGHTGBM = Preset(exclude=(_BINARY_DATA,))

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "huggingface": _HUGGINGFACE,
        "lightning": _LIGHTNING,
        "yolo": _YOLO,
        "keras": _KERAS,
        "tensorboard": _TENSORBOARD,
        "mlflow": _MLFLOW,
        "xgboost": _XGBOOST,
        "lightgbm": _LIGHTGBM,
    }
)
"""Every preset, by its name in ``preset = …``."""


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names back, each once.

    Raises:
        Mistake: There is no preset of such a name.
    """
    for name in names:
        if name not in PRESETS:
            close = difflib.get_close_matches(name.lower(), PRESETS, 1, 0.6)
            nearest = f"write {shown(close[0])}, the nearest; " if close else ""
            raise Mistake(f"there is no preset {shown(name)}", f"{nearest}there are {', '.join(PRESETS)}")
    return tuple(dict.fromkeys(names))


def lacks_reader(names: Iterable[str]) -> bool:
    """Whether these presets would tell of event files, and the extra that reads them is not installed."""
    return any(_EVENTS in (route.match for route in PRESETS[name].routes) for name in names) and not is_installed()


def merge(
    names: Iterable[str], *, depth: int, routes: Sequence[Route], live: Sequence[str], exclude: Sequence[str]
) -> Rules:
    """Join presets with the rules that a watch has itself.

    Args:
        names: Of the presets; several add up.
        depth: Folder levels from the watched folder to a run folder.
        routes: The watch's own.
        live: Likewise.
        exclude: Likewise; they come after the presets', so that a ``!pattern`` takes one of these back.

    Returns:
        All of them; what a preset brings says so. Without the extra that reads them, event files are artifacts: a
        preset asks for what can be had, and `notices` says what is lacking.
    """
    chosen = {name: PRESETS[name] for name in names}
    unread = _EVENTS if lacks_reader(chosen) else None
    return Rules(
        routes=(
            *routes,
            *(replace(r, origin=f"preset {n}") for n, p in chosen.items() for r in p.routes if r.match != unread),
        ),
        live=(*live, *dict.fromkeys(_within_run(glob, depth) for p in chosen.values() for glob in p.live)),
        exclude=(
            *(
                Exclude(_within_run(glob, depth), f"exclude {glob} (preset {name})")
                for name, p in chosen.items()
                for glob in p.exclude
            ),
            *exclude,
        ),
        checkpoints=tuple(dict.fromkeys(c for p in chosen.values() for c in p.checkpoints)),
    )


def _within_run(glob: str, depth: int) -> str:
    """A glob on paths within a run folder, for paths below the watched folder."""
    return f"/{'*/' * depth}{glob}"
