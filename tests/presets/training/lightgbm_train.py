"""LightGBM: the data in the library's own format, snapshots of the model, and the model, written twice."""

import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np

run = Path(sys.argv[1])
data = np.random.default_rng(0).random((500, 8))
train = lgb.Dataset(data, label=data[:, 0] > 0.5)
train.save_binary(str(run / "train.bin"))


def snapshot(env: lgb.callback.CallbackEnv) -> None:
    """Save the model of every fifth round, as the command line's snapshot_freq does."""
    if env.iteration % 5 == 4:
        env.model.save_model(str(run / f"model.txt.snapshot_iter_{env.iteration + 1}"))


booster = lgb.train({"objective": "binary", "verbose": -1}, train, num_boost_round=15, callbacks=[snapshot])
for _ in range(2):
    booster.save_model(str(run / "model.txt"))
