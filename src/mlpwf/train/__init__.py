"""The train stage: the committee of a cycle and the final model."""
