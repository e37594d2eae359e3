"""The corpus: wrong rules beside their right twins (`PAIRS`), and right functions that are hard (`HARD`)."""

from .case import Case
from .hard_linalg import CASES as _hard_linalg
from .hard_scales import CASES as _hard_scales
from .hard_structure import CASES as _hard_structure
from .pairs_attention import CASES as _attention
from .pairs_contract import CASES as _contract
from .pairs_elementwise import CASES as _elementwise
from .pairs_normalization import CASES as _normalization
from .pairs_reductions import CASES as _reductions
from .pairs_structure import CASES as _structure

PAIRS: tuple[Case, ...] = (*_elementwise, *_reductions, *_normalization, *_attention, *_structure, *_contract)
HARD: tuple[Case, ...] = (*_hard_scales, *_hard_structure, *_hard_linalg)
CASES: tuple[Case, ...] = PAIRS + HARD

__all__ = ["CASES", "HARD", "PAIRS", "Case"]
