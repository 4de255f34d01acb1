"""pytorch-lightning: two loggers, the best two checkpoints and a link to the last, four epochs."""

import sys

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    """One layer."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, index):
        """One step."""
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        """A column that appears later."""
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(x), y))

    def configure_optimizers(self):
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


torch.manual_seed(0)
x = torch.rand(256, 8)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32)
run = sys.argv[1]
keep = ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last="link", filename="{epoch}-{val_loss:.3f}")
trainer = pl.Trainer(
    max_epochs=4, accelerator="cpu", logger=[TensorBoardLogger(run), CSVLogger(run, flush_logs_every_n_steps=2)],
    callbacks=[keep], log_every_n_steps=2, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(Net(), data, data)
