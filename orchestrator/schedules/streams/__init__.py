"""What an engine executes of a schedule: computations and transfers in its own order and words.

Computations are torch's words (`4F0`). A transfer is `4SEND_F0` or `4RECV_B0`: of stage 4, a
forward's output or a backward's incoming gradient of microbatch 0. Transfers that one call makes
are joined by `+`, sorted.
"""
