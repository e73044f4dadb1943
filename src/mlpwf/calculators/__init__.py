"""What computes labels."""
