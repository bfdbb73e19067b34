"""Send a word: send tcp|udp|unix HOST PORT WORD. Prints what comes back."""

import socket
import sys

kind, host, port, word = sys.argv[1:]
if kind == "unix":
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(3)
    link.connect("\0" + host)
else:
    link = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    link.settimeout(3)
    link.connect((host, int(port)))
link.send(word.encode())
print(link.recv(64))
