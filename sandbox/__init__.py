"""Reinforcement learning and unsupervised learning on one zoo of networks."""
