"""Posteriors of a structural causal model's nodes given noisy measurements of them."""
