"""Learned scores (gradients of log densities) and what they are for: Tweedie's formula."""
