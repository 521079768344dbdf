"""The evaluation of trained models: sample quality, likelihood, outlier detection and composition."""
