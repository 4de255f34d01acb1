"""Keras on torch: best model, weights of each epoch, CSVLogger, BackupAndRestore."""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

run = sys.argv[1]
x = np.random.default_rng(0).random((256, 8)).astype("float32")
y = x.sum(1, keepdims=True)
model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(
    x, y, epochs=4, verbose=0, validation_data=(x, y),
    callbacks=[
        keras.callbacks.ModelCheckpoint(f"{run}/best.keras", save_best_only=True),
        keras.callbacks.ModelCheckpoint(f"{run}/last.weights.h5", save_weights_only=True),
        keras.callbacks.CSVLogger(f"{run}/training.csv"),
        keras.callbacks.BackupAndRestore(f"{run}/backup"),
    ],
)  # fmt: skip
model.save(f"{run}/final.keras")
