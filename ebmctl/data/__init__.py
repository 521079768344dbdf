"""Datasets by name: images float (B, C, H, W) in [0, 1] with labels; one short file for each source."""
