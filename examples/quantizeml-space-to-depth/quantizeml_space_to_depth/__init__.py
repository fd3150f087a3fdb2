"""SpaceToDepth as a convolution that chooses pixels."""
