"""What is told about a model: findings (`findings`)."""
