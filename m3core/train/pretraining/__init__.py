"""Pre-training on plain texts, without pairs: RetroMAE."""
