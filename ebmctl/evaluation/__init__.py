"""What a trained model is worth: outlier detection."""
