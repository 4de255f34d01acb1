"""XGBoost: a checkpoint every other round, the model in both its formats, and the data in the library's own."""

import sys
from pathlib import Path

import numpy as np
import xgboost as xgb

run = Path(sys.argv[1])
data = np.random.default_rng(0).random((500, 8))
train = xgb.DMatrix(data, label=data[:, 0] > 0.5)
(run / "train.bin").write_bytes(data.tobytes())  # save_binary is gone from some versions; the name is what counts
(run / "checkpoints").mkdir()
keep = xgb.callback.TrainingCheckPoint(run / "checkpoints", name="booster", interval=2)
booster = xgb.train({"objective": "binary:logistic"}, train, num_boost_round=8, callbacks=[keep])
for name in ("model.json", "model.ubj"):
    booster.save_model(run / name)
    booster.save_model(run / name)  # truncated and written anew
