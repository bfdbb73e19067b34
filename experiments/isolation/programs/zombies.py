"""Leave children behind that have ended and that nobody waits for, named by a word: zombies WORD"""
import os
import signal
import sys
import time

if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open("/proc/self/comm", "w") as name:
        name.write(sys.argv[1][:15])
    for _ in range(40):
        if os.fork() == 0:
            os._exit(0)
    for descriptor in range(3):
        os.close(descriptor)
    time.sleep(60)
    os._exit(0)
time.sleep(0.3)
