"""What a frozen encoder is worth: features, kNN, linear probe, few-shot."""
