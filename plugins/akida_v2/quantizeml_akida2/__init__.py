"""The Akida 2.0 hardware profile, as data (`profile`, `tables`), and its door (`plugin`)."""
