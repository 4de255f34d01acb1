"""pytorch-lightning with a model in shards (one, on one process): its checkpoint is a folder."""

import sys

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def configure_model(self) -> None:
        """Here it would be spread over the devices."""

    def training_step(self, batch, index):
        """One step."""
        x, y = batch
        return torch.nn.functional.mse_loss(self.layer(x), y)

    def configure_optimizers(self):
        """Plain descent."""
        return torch.optim.Adam(self.parameters())


torch.manual_seed(0)
x = torch.rand(64, 8)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32)
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", devices=1, strategy=ModelParallelStrategy(), default_root_dir=sys.argv[1],
    enable_progress_bar=False, enable_model_summary=False, logger=False,
)  # fmt: skip
trainer.fit(Net(), data)
