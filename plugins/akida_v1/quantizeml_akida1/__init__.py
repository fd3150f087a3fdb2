"""The Akida 1.0 hardware profile, as data (`profile`), and its door (`plugin`)."""
