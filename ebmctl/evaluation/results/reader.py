"""The reader of results: files may come from anyone, and are checked before use."""

from __future__ import annotations

from pathlib import Path

from ebmctl.errors import EbmctlError
from ebmctl.evaluation.results.composition import CompositionResult
from ebmctl.evaluation.results.outliers import OutlierResult
from ebmctl.evaluation.results.quality import QualityResult
from ebmctl.files import read_json

Result = OutlierResult | QualityResult | CompositionResult
KINDS: dict[str, type[Result]] = {
    "attributes": CompositionResult,
    "results": OutlierResult,
    "metrics": QualityResult,
}
LONGEST = 200  # characters of what is wrong: a file's values may be of any length


def read_result(path: Path, checksum: str | None = None) -> Result:
    """The result in the JSON of `ebmctl ood`, `evaluate` or `compose --check`.

    Raises EbmctlError with one line that names the file: for any other file, for one that is damaged or has numbers
    that are not finite, and, with a checksum, for the result of a model with other weights.
    """
    document = read_json(path)
    kind = next((made for key, made in KINDS.items() if key in document), None)
    if kind is None:
        raise EbmctlError(f"{path} is not the JSON of `ebmctl ood`, `evaluate` or `compose --check`")
    try:
        result = kind.from_json(document)
    except (EbmctlError, RecursionError) as error:
        raise EbmctlError(f"{path} is not a complete result: {str(error)[:LONGEST]}") from error
    if checksum is not None and checksum not in result.weights:
        raise EbmctlError(f"{path} is of a model with other weights")
    return result
