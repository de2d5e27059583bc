"""When each pipeline rank runs which microbatch: orders, their laws, their time and memory.

Every later schedule is one more generator file beside `one_f_one_b` and `interleaved`.
"""
