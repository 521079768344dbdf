"""The datasets that ship, by name. Imports nothing."""

DATASETS: dict[str, tuple[str, str]] = {"digits": ("ebmctl.data.digits:make", "scikit-learn's 1,797 digits")}
NATIVE: dict[str, tuple[int, int]] = {"digits": (16, 1)}
