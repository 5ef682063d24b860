"""What the name of a model's file says of it."""

FORMATS = {
    ".onnx": "onnx",
    ".skops": "skops",
    ".pt2": "pt2",
    ".safetensors": "safetensors",
    ".lgb": "lightgbm",
    ".txt": "lightgbm",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".xgb": "xgboost",
}
UNSAFE = frozenset(
    (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".hdf5", ".keras", ".mar")
)
