"""Training runs: a trainer, its loop, and the folder that holds all of it."""
