"""Training: losses over all three representations. torch is imported where something of it is used."""
