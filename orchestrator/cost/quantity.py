"""What a step is made of, before anybody says how long a unit of it takes.

A *bill* is a vector of quantities: FLOPs, bytes, calls. It follows from model, batch and layout
alone. *Prices* (`prices.py`) are seconds for a unit of each, and follow from machine, software
and calibration alone. Seconds are bill times prices, so a fit moves prices and never a formula.
"""

from enum import IntEnum


class Quantity(IntEnum):
    """The entries of a bill; a place in the vector.

    `*_BYTES` of a product is its traffic: both operands and the result, 2 bytes each. Bytes of
    communication are per rank, divided by the adapters that carry them where they leave a
    domain (`FAR`). `HIDDEN_*` is communication that runs beside computation.
    """

    GEMM_FLOP = 0
    GEMM_BYTES = 1
    WIDE_FLOP = 2
    WIDE_BYTES = 3
    GROUPED_FLOP = 4
    GROUPED_BYTES = 5
    ACCUMULATED_BYTES = 6
    ATTENTION_FLOP = 7
    ATTENTION_EDGE_FLOP = 8
    ATTENTION_NARROW_FLOP = 9
    SCORE_BYTES = 10
    ELEMENT_BYTES = 11
    PERMUTED_BYTES = 12
    CAST_BYTES = 13
    LOGIT_FLOP = 14
    LOGIT_BYTES = 15
    LOSS_BYTES = 16
    LAYERS = 17
    MOE_LAYERS = 18
    TP_NEAR_BYTES = 19
    TP_FAR_BYTES = 20
    TP_CALLS = 21
    HIDDEN_TP_NEAR_BYTES = 22
    HIDDEN_TP_FAR_BYTES = 23
    HIDDEN_TP_CALLS = 24
    CP_NEAR_BYTES = 25
    CP_FAR_BYTES = 26
    CP_CALLS = 27
    EP_NEAR_BYTES = 28
    EP_FAR_BYTES = 29
    EP_CALLS = 30
    PP_NEAR_BYTES = 31
    PP_FAR_BYTES = 32
    HIDDEN_PP_NEAR_BYTES = 33
    HIDDEN_PP_FAR_BYTES = 34
    PP_CALLS = 35
    GATHER_NEAR_BYTES = 36
    GATHER_FAR_BYTES = 37
    GATHER_CALLS = 38
    GRADIENT_NEAR_BYTES = 39
    GRADIENT_FAR_BYTES = 40
    PARAMETER_NEAR_BYTES = 41
    PARAMETER_FAR_BYTES = 42
    OPTIMIZER_BYTES = 43
    ATTENTION_ODD_FLOP = 44
    EXPERTS = 45


NUM_QUANTITIES = len(Quantity)
