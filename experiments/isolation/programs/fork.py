"""Have as many children as possible at one time, N at most: fork N. Prints how many there were."""

import os
import signal
import sys
import time

children = []
for _ in range(int(sys.argv[1])):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        time.sleep(20)
        os._exit(0)
    children.append(child)
print("ALIVE", len(children), flush=True)
for child in children:
    os.kill(child, signal.SIGKILL)
