"""The core of QuantizeML: floats become integers here, once. It imports no framework; frontends and targets come as plugins (`hooks`)."""
