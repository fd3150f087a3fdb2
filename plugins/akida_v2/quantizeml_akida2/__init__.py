"""The Akida 2.0 hardware profile, as data (`profile`), and its door (`plugin`)."""
