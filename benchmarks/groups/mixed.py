"""A folder as training leaves it: a checkpoint, event files, logs and pictures."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from costs import MIB
from dropping import SETTLE
from rows import OURS, Goal, Row, interleaved
from setting import Setting

_LOOP = "loop over log_artifact"


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each store."""
    for store in ("local", "server"):
        if store in setting.stores:
            yield _row(setting, store)


def _row(setting: Setting, store: str) -> Row:
    form = setting.form(store)
    base = setting.folder("mixed")
    with ExitStack() as ends:
        hand = setting.by_hand(form, ends)
        service = setting.service("mixed", form, ends)
        files = 0

        def ours(n: int) -> float:
            nonlocal files
            run = base / f"ours-{n}"
            files = _written(setting, run / f"tree-{n}")
            # Growing files are sent in whole once their run has ended.
            (run / ".done").touch()
            time.sleep(SETTLE)
            begun = time.time()
            run.rename(service.experiment / run.name)
            return service.all_stored(f"tree-{n}/", files, begun) - begun

        def loop(n: int) -> float:
            tree = base / f"loop-{n}" / f"tree-{n}"
            _written(setting, tree)
            begun = time.perf_counter()
            run = hand.run(f"mixed by hand, {form.name}", form.artifact_location)
            hand.log_tree(run, str(tree), tree.name)
            return time.perf_counter() - begun

        values = interleaved(setting.scale.rounds + 1, {OURS: ours, _LOOP: loop})
        values = {side: seconds[1:] for side, seconds in values.items()}  # the first also makes connections
    work = f"checkpoint, event files, logs, {setting.scale.mixed_pictures} pictures ({files} files): {form.name}"
    return Row("mixed", work, "s", values, [Goal("faster", 3.0, _LOOP)])


def _written(setting: Setting, tree: Path) -> int:
    """Write the tree; how many files it has."""
    chance = random.Random(len(tree.name))  # noqa: S311 (sizes)
    weights = setting.scale.mixed_mib * MIB
    checkpoint = tree / "checkpoint-500"
    sizes = {
        checkpoint / "model-00001-of-00002.safetensors": weights // 6,
        checkpoint / "model-00002-of-00002.safetensors": weights // 6,
        checkpoint / "optimizer.pt": weights * 4 // 6,
        checkpoint / "model.safetensors.index.json": 60_000,
        checkpoint / "tokenizer.json": 2 * MIB,
        **{checkpoint / name: 1_000 for name in ("config.json", "generation_config.json", "trainer_state.json",
                                                 "training_args.bin", "scheduler.pt", "rng_state.pth",
                                                 "tokenizer_config.json", "special_tokens_map.json")},
        **{tree / "runs" / f"events.out.tfevents.{n}.host": 400_000 for n in range(3)},
        **{tree / "logs" / f"rank-{n}.log": 80_000 for n in range(8)},
        **{tree / "pictures" / f"step-{n // 20:03}" / f"{n:05}.png": chance.randrange(20_000, 200_000)
           for n in range(setting.scale.mixed_pictures)},
    }  # fmt: skip
    block = os.urandom(MIB)
    for path, size in sizes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as f:
            for start in range(0, size, MIB):
                f.write(block[: min(size - start, MIB)])
    return len(sizes)
