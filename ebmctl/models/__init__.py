"""Trained models: their folders, their energies and samples, and where they are found."""
