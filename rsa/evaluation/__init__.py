"""Evaluation of encoders: features, kNN, linear probe, few-shot, fine-tuning, detection, robustness."""
