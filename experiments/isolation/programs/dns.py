"""Ask a name server for a name that carries a word: dns HOST PORT WORD"""

import socket
import struct
import sys

host, port, word = sys.argv[1:]
question = b"".join(bytes([len(part)]) + part.encode() for part in (word, "example", "org")) + b"\0"
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.sendto(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + question + struct.pack("!2H", 1, 1), (host, int(port)))
