# Variables of every rank. MASTER_*, RANK and WORLD_SIZE are the starter's.

# ranks share the host's cores
OMP_NUM_THREADS=1

# a crash leaves a Python stack
PYTHONFAULTHANDLER=1
