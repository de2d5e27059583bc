"""Descriptors that nobody reads."""

import os


def fill(descriptor: int) -> None:
    """Write until whoever writes one byte more has to wait for the reader."""
    os.set_blocking(descriptor, False)
    try:
        while os.write(descriptor, b"unread\n"):
            continue
    except BlockingIOError:
        os.set_blocking(descriptor, True)
