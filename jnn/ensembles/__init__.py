"""Many networks in one program: ensembles, sweeps, bootstrap samples, cross-validation; their averaged prediction."""

from jnn.ensembles.ensemble import Ensemble as Ensemble
from jnn.ensembles.fitting import fit as fit
from jnn.ensembles.resampling import bootstrap as bootstrap, k_fold as k_fold
from jnn.ensembles.search import Search as Search, cross_validate as cross_validate
from jnn.model import Moments as Moments
