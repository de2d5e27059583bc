"""When each pipeline rank runs which microbatch: orders, their laws, their time and memory.

Each schedule is one generator file; `schedule` knows them all, `legal` what engines take of them,
`streams` what engines make of them. `simulate` and `memory` say what they cost.
"""
