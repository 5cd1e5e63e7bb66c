"""Semantic segmentation using adversarial networks (Luc, Couprie, Chintala, Verbeek, 2016)."""

VOID = 255  # The label of what has no ground truth: unlabelled pixels, and padding.
