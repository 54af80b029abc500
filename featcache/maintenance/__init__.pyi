from .collection import gc as gc
from .inventory import info as info
from .reembed import embed_again as embed_again
from .repairing import repair as repair
from .verification import HASHES as HASHES
from .verification import QUICK as QUICK
from .verification import examine as examine
from .verification import verify as verify
