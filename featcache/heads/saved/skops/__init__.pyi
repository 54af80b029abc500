from .models import RefusedError as RefusedError
from .models import answers_bytes as answers_bytes
from .models import answers_of as answers_of
from .models import estimator_bytes as estimator_bytes
from .models import estimator_of as estimator_of
from .models import ridge_bytes as ridge_bytes
from .models import ridge_of as ridge_of
