"""The figures of the papers, one module each: settings, runs, report. ``latentcause reproduce`` runs them."""
