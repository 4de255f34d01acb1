"""transformers' Trainer on a tiny model made here: a checkpoint each two steps, of which two are kept.

It ends as the example scripts of transformers do. Its last line is all that it has logged, as JSON.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

config = BertConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=32,
)  # fmt: skip
torch.manual_seed(0)
rows = [{"input_ids": torch.randint(0, 64, (16,)), "labels": torch.tensor(n % 2)} for n in range(64)]
settings = TrainingArguments(
    output_dir=sys.argv[1], max_steps=12, save_steps=2, save_total_limit=2, logging_steps=1, report_to=[], use_cpu=True,
    per_device_train_batch_size=8, disable_tqdm=True, eval_strategy="steps", eval_steps=4,
)  # fmt: skip
trainer = Trainer(BertForSequenceClassification(config), settings, train_dataset=rows, eval_dataset=rows[:16])
done = trainer.train()
trainer.save_model()
trainer.save_metrics("train", done.metrics)
trainer.save_state()
trainer.save_metrics("eval", trainer.evaluate())
sys.stdout.write(json.dumps(trainer.state.log_history) + "\n")
