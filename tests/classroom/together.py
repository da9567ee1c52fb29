"""Several things at once, as two kernels do them."""

import threading


def at_once(*works):
    """Run functions in threads, and raise what one of them raises."""
    raised = []

    def run(work):
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
