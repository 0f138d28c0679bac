"""The parts of models that learn causal variables from pairs before and after an intervention."""
