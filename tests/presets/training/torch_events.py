"""torch's SummaryWriter, in a folder as it would choose: scalars as numbers and as tensors, and what is no scalar."""

import sys
import time

import torch
from torch.utils.tensorboard import SummaryWriter

with SummaryWriter(f"{sys.argv[1]}/runs/Nov26_06-41-02_host", flush_secs=1) as writer:
    for step in range(100):
        writer.add_scalar("train/loss", 1 / (step + 1), step)
        writer.add_scalar("tensor", step / 3, step, new_style=True)
        writer.add_scalar("double", step / 3, step, new_style=True, double_precision=True)
        writer.add_scalars("both", {"train": step, "val": step / 2}, step)
        time.sleep(0.03)
    writer.add_text("note", "the end")
    writer.add_histogram("weights", torch.randn(100), 0)
    writer.add_image("picture", torch.zeros(3, 8, 8), 0)
    writer.add_hparams({"lr": 0.1}, {"hparam/loss": 0.01})
