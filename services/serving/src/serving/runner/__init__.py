"""The child that runs what needs scikit-learn."""
