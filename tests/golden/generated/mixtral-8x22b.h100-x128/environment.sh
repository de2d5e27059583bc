# Variables of every rank. MASTER_*, RANK and WORLD_SIZE are the starter's.

# environment ib-generic
NCCL_IB_TIMEOUT=22

# environment ib-generic
NCCL_IB_RETRY_CNT=7

# ranks share the host's cores
OMP_NUM_THREADS=1

# a crash leaves a Python stack
PYTHONFAULTHANDLER=1

# a failed collective ends the rank instead of hanging it
TORCH_NCCL_ASYNC_ERROR_HANDLING=1

# flight recorder: the last collectives of each rank
TORCH_NCCL_TRACE_BUFFER_SIZE=20000

# the flight recorder is written when a collective times out
TORCH_NCCL_DUMP_ON_TIMEOUT=1

# freed blocks of odd sizes can be used again
PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True

# Megatron asserts 1 with tp or cp: sends must reach the GPU before what hides them
CUDA_DEVICE_MAX_CONNECTIONS=1

# norms leave these multiprocessors to collectives that run beside them
NVTE_FWD_LAYERNORM_SM_MARGIN=16

# norms leave these multiprocessors to collectives that run beside them
NVTE_BWD_LAYERNORM_SM_MARGIN=16
