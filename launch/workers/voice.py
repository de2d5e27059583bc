"""Which rank says what several ranks have found, so that a refusal is read once.

Every rank tells its agent (`refused`, a line of the protocol); this is about the log for people.
"""

import sys
from typing import Final

_KEY: Final = "llmorch-refusals"


def speaks_first() -> bool:
    """Whether this rank is the first of all to refuse; alone, it is.

    The ranks' store counts them. When it does not answer, whoever kept it has refused and left.
    """
    if "torch" not in sys.modules:
        return True
    import torch.distributed as dist
    from torch.distributed import distributed_c10d

    if not dist.is_initialized():
        return True
    try:
        store = distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no public name for it
        return int(store.add(_KEY, 1)) == 1
    except RuntimeError:  # DistNetworkError is one
        return False
