"""What a model is, for trainer and serving alone.

Nothing is imported here on purpose: serving's ONNX process imports `signature`, `rows` and `onnx_models` (NumPy and
ONNX Runtime), and never meets scikit-learn, which `formats`, `skops_models`, `training` and `twin` bring.
"""
