"""Builds the bundled model from its sources: `python -m m3core.mini.build`."""
