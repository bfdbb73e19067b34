"""Send an ICMP echo request and wait for the reply: ping HOST"""

import socket
import struct
import sys

packet = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
checksum = 0xFFFF ^ sum(struct.unpack("!4H", packet))
packet = struct.pack("!BBHHH", 8, 0, checksum & 0xFFFF, 1, 1)
for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
    try:
        link = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        link.settimeout(2)
        link.sendto(packet, (sys.argv[1], 0))
        link.recv(128)
        print("REPLIED")
    except OSError as error:
        print(error, file=sys.stderr)
