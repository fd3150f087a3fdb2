"""The names with which scripts for BrainChip's `quantizeml.onnx_support` describe blocks. docs/migration.md maps them one by one."""
