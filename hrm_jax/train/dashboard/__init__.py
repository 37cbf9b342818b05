"""What a run leaves for TensorBoard to show, and how it is read back."""
