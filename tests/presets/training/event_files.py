"""tensorboardX: scalars, a text, and add_scalars and add_hparams, which make folders with event files of their own."""

import sys
import time

from tensorboardX import SummaryWriter

with SummaryWriter(sys.argv[1], flush_secs=1) as writer:
    for step in range(300):
        writer.add_scalar("loss", 1 / (step + 1), step)
        writer.add_scalars("both", {"train": step, "val": step / 2}, step)
        time.sleep(0.01)
    writer.add_text("note", "the end")
    writer.add_hparams({"lr": 0.1}, {"hparam/loss": 1 / 300})
