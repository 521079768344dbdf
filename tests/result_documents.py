"""Documents as `ebmctl ood`, `evaluate` and `compose --check` write them, and as files of before have them."""

from __future__ import annotations

METRIC = {"value": 0.9, "low": 0.8, "high": 0.95}
PRINT = {"dataset": "noise", "split": "test", "count": 60, "of": 100, "sha256_first": "1", "sha256_all": "2"}
ROW = {**dict.fromkeys(("auroc", "aupr_in", "aupr_out", "fpr95"), METRIC), "n_in": 1000, "n_out": 60}
OUTLIERS = {
    "in": "digits",
    "fingerprint": PRINT,
    "model": "digits",
    "model_sha256": "ab",
    "score": "energy",
    "fpr95": "share of outside images accepted where 95 % of the inside ones are; inside is positive",
    "results": [
        {"out": "noise", **ROW, "fingerprint": PRINT},
        {"out": "constant", **ROW, "auroc": {"value": 0.5, "low": 0.25, "high": 0.75}, "fingerprint": PRINT},
    ],
    "average": {"auroc": 0.7, "aupr_in": 0.9, "aupr_out": 0.9, "fpr95": 0.9},
    "command": "ebmctl ood --in digits --out noise --out constant --json",
}
SEEN = {"extractor": "toy", "weights_sha256": "cd", "resize": "none", "n": 1000, "n_real": 2000}
SOURCE = {"data": "digits", "split": "train", "images_sha256": "ef"}
QUALITY = {
    "model": "digits",
    "model_sha256": "ab",
    "n": 1000,
    "data": "digits",
    "split": "train",
    "seed": 3,
    "figures": ["figs/chains.png"],
    "report": "page.html",
    "command": "ebmctl evaluate digits --json",
    "metrics": {
        "toy frechet-distance": {"value": 12.5, **SEEN, **SOURCE},
        "toy score": {"value": 2.0, "std": 0.125, "splits": 10, **SEEN, **SOURCE},
        "toy kernel-distance": {"value": 0.0, "std": 0.5, "subsets": 100, "subset_size": 50, **SEEN, **SOURCE},
        "toy precision": {"value": 0.75, "neighbours": 3, **SEEN, **SOURCE},
        "log_z": {**METRIC, "forward": 0.8, "reverse": 1.0, "effective": 0.5, "acceptance": 0.75, "temperature": 2.0,
                  "chains": 64, "levels": 500, "seed": 0, "reverse_starts": "ends of the forward chains"},
        "bits_per_dimension": {**METRIC, "n": 50, "temperature": 1.0, **SOURCE, "split": "test"},
        "memorisation (pixel distance)": {"value": 0.1, "held_out": 0.125, "distance": "pixel", "n": 15,
                                          "n_held_out": 15, "n_real": 2000, "data": "digits", "split": "train"},
    },
}  # fmt: skip
COMPOSITION = {
    "expression": "young & ~old",
    "models": {"young": "ab", "old": None},
    "algebra": {"shared": True, "strength": 32.0, "or_temperature": None, "not_weight": 1.0},
    "seed": 0,
    "n": 1000,
    "output": "x.png",
    "acceptance": 0.625,
    "attributes": {"young": {"accuracy": METRIC}, "~old": {"accuracy": {"value": 0.5, "low": 0.25, "high": 0.75}}},
    "joint": METRIC,
    "diversity": 0.9375,
    "look": {"sharpness": {"composed": 0.125, "data": 0.25}},
    "histogram": {"composed": [0.5, 0.5], "data": [0.25, 0.75]},
    "classifier": {"dataset": "faces", "sha256": "cd"},
    "held_out": 1234,
    "command": "ebmctl compose young not:old --check --json",
}
WHOLE = {"outliers": OUTLIERS, "quality": QUALITY, "composition": COMPOSITION}
_ROW = {name: ROW[name] for name in ("auroc", "aupr_in", "aupr_out", "fpr95")}
BEFORE = {  # of which some have been read for a card, a page or a comparison
    "a card's outliers": {"in": "noise", "model_sha256": "ab", "score": "energy", "results": [{"out": "x", **_ROW}]},
    "a card's quality": {"model_sha256": "ab", "n": 100, "metrics": {"fid": {"value": 12.5, "extractor": "toy"}}},
    "a card's composition": {"expression": "glad & ~old", "models": {"glad": "ab", "old": "0"}, "n": 50,
                             "joint": METRIC, "attributes": {"glad": {"accuracy": METRIC}},
                             "classifier": {"dataset": "toys"}},
    "a page's outliers": {"in": "cifar10", "score": "energy", "results": [{"out": "set", **ROW}], "model_sha256": None,
                          "average": {"auroc": 0.5, "aupr_in": 0.5, "aupr_out": 0.5, "fpr95": 0.5}, "command": "c"},
    "a page's composition": {"models": {"a": None}, "expression": "a", "seed": 0, "n": 64, "held_out": 9,
                             "attributes": {"a": {"accuracy": METRIC}}, "joint": METRIC, "diversity": None,
                             "classifier": {"dataset": "faces"}, "look": {"sharpness": {"composed": 1, "data": 1}}},
    "one to compare": {"metrics": {"fid": {"value": 1}}},
}  # fmt: skip
