from .advice import check_and_advise as check_and_advise
from .check import Check as Check
