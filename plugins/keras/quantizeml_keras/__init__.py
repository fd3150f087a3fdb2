"""The Keras frontend of QuantizeML. Importing it imports no framework; `plugin` is its door."""
