"""Unsupervised learning as scikit-learn estimators on the networks of the zoo."""
