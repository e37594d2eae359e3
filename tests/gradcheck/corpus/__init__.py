"""The corpus: wrong rules beside their right twins (`PAIRS`), right functions that are hard (`HARD`), and functions of
which nothing can be said (`UNDECIDABLE`).
"""

from .case import Case
from .hard_linalg import CASES as _hard_linalg
from .hard_mixed import CASES as _hard_mixed
from .hard_scales import CASES as _hard_scales
from .hard_solvers import CASES as _hard_solvers
from .hard_structure import CASES as _hard_structure
from .hard_world import CASES as _hard_world
from .pairs_attention import CASES as _attention
from .pairs_contract import CASES as _contract
from .pairs_elementwise import CASES as _elementwise
from .pairs_kernels import CASES as _kernels
from .pairs_kinks import CASES as _kinks
from .pairs_mixed import CASES as _mixed
from .pairs_normalization import CASES as _normalization
from .pairs_primitives import CASES as _primitives
from .pairs_reductions import CASES as _reductions
from .pairs_second import CASES as _second
from .pairs_solvers import CASES as _solvers
from .pairs_structure import CASES as _structure
from .undecidable import CASES as _undecidable

PAIRS: tuple[Case, ...] = (
    *(*_elementwise, *_reductions, *_normalization, *_attention, *_structure, *_contract),
    *(*_mixed, *_primitives, *_kernels, *_solvers, *_kinks, *_second),
)
HARD: tuple[Case, ...] = (*_hard_scales, *_hard_structure, *_hard_linalg, *_hard_mixed, *_hard_world, *_hard_solvers)
UNDECIDABLE: tuple[Case, ...] = tuple(_undecidable)
CASES: tuple[Case, ...] = PAIRS + HARD

__all__ = ["CASES", "HARD", "PAIRS", "UNDECIDABLE", "Case"]
