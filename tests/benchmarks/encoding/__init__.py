"""The parts of the encoder benchmark, `encoders.py`; `adapters` and `preparing` run in the peers' environments."""
