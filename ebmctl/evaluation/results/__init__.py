"""What `ebmctl ood`, `evaluate` and `compose --check` find: types that are checked, and the one reader of their JSON.

Each result has `to_json`, the JSON document; `table`, `heading` and `note` for people; `card_rows` for a model card;
`weights`, the checksums of the models that it is of; and `public`, itself without paths of this machine. None of it
imports torch.
"""

from ebmctl.evaluation.results.comparison import Comparison, compare
from ebmctl.evaluation.results.composition import CompositionResult, Histograms, Judge, PixelStatistic
from ebmctl.evaluation.results.outliers import OutlierResult, OutlierRow
from ebmctl.evaluation.results.quality import Metric, QualityResult
from ebmctl.evaluation.results.reader import Result, read_result
from ebmctl.evaluation.results.tables import CardRow, Table

__all__ = [
    "CardRow",
    "Comparison",
    "CompositionResult",
    "Histograms",
    "Judge",
    "Metric",
    "OutlierResult",
    "OutlierRow",
    "PixelStatistic",
    "QualityResult",
    "Result",
    "Table",
    "compare",
    "read_result",
]
