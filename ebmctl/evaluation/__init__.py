"""What a trained model is worth: sample quality, likelihood, outlier detection, composition, and the page of it."""
