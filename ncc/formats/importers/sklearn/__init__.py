"""Estimators of scikit-learn: perceptrons, linear models, pipelines."""
