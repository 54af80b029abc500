from .advice import check_and_advise as check_and_advise
from .check import Check as Check
from .difference import ValDifference as ValDifference
from .logreg_path import LogregOptimum as LogregOptimum
from .logreg_path import solve_logreg_path as solve_logreg_path
from .path import RegularisedOptimum as RegularisedOptimum
