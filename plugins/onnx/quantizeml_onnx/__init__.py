"""The ONNX frontend of QuantizeML. `plugin` is its light door; nothing here imports ONNX until a model arrives."""
