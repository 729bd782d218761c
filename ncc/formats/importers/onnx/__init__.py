"""ONNX models: their operators on arrays of neurons."""
