"""The Keras door (`plugin`). There is no frontend behind it in this version."""
