"""What a fork server does before ranks of this worker are forked from it."""

import os

from launch.workers.megatron_core.main import prepare_torch
from launch.workers.report import Reporter


def warm_up() -> None:
    """Import the engine as a rank does, and leave CUDA alone."""
    # Asks the driver's library how many GPUs there are, instead of CUDA, which a fork would break.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    prepare_torch(Reporter(pipe=None, marks=None))
    from launch.workers.collectives import replace_collectives

    replace_collectives()
    from launch.workers.megatron_core import session  # noqa: F401 - imported for its ranks
