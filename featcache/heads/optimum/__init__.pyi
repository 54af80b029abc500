from .advice import check_and_advise as check_and_advise
from .check import Check as Check
from .difference import ValDifference as ValDifference
from .path import RegularisedOptimum as RegularisedOptimum
