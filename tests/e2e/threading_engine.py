"""An engine that starts a thread when it is imported, as torch does with two OpenMP threads."""

import threading


def warm_up() -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
