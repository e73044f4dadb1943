"""The validate stage: the final model against labels and its own liquid."""
