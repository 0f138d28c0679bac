"""Images drawn from factors whose structural causal model is known, with true counterfactual images."""
