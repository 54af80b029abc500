from .estimator_file import check_present as check_present
from .estimator_file import check_width as check_width
from .estimator_file import estimator_from_bytes as estimator_from_bytes
from .estimator_file import estimator_to_bytes as estimator_to_bytes
