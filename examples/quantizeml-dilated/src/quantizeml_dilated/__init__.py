"""Dilated convolutions as convolutions whose kernel has zeros between its taps."""
