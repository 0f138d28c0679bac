"""Pairs of observations before and after an intervention, simulated with their causal variables."""
