"""Post-training methods, which need few images and no labels."""
