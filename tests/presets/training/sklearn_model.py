"""mlflow.sklearn.save_model, with an example of its input."""

import sys

import mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

x, y = load_iris(return_X_y=True)
mlflow.sklearn.save_model(LogisticRegression(max_iter=500).fit(x, y), f"{sys.argv[1]}/classifier", input_example=x[:3])
