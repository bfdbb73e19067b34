"""Try one forbidden thing: syscall NAME [PID]. Prints PERMITTED where the kernel did not refuse it."""

import ctypes
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
name, pid = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
CALLS = {
    "mount": lambda: (os.makedirs("m", exist_ok=True), libc.mount(b"none", b"m", b"tmpfs", 0, b""))[1],
    "chroot": lambda: (os.makedirs("c", exist_ok=True), libc.chroot(b"c"))[1],
    "user-namespace": lambda: libc.unshare(0x10000000),
    "mount-namespace": lambda: libc.unshare(0x00020000),
    "join-namespace": lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
    "ptrace": lambda: libc.ptrace(0x4206, pid, 0, 0),
    "pidfd": lambda: libc.syscall(434, pid, 0),
    "keyctl": lambda: libc.syscall(250, 0, -3, 1),
    "userfaultfd": lambda: libc.syscall(323, 0),
    "io-uring": lambda: libc.syscall(425, 2, ctypes.create_string_buffer(256)),
    "packet-socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno(),
    "raw-socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno(),
    "device-node": lambda: os.mknod("disk-device-py", 0o60600, os.stat("/").st_dev) or 0,
    "nice": lambda: libc.setpriority(0, 0, -10),
}
try:
    outcome = CALLS[name]()
except OSError as error:
    sys.exit(str(error))
if outcome >= 0:
    print("PERMITTED", name)
else:
    print(os.strerror(ctypes.get_errno()), file=sys.stderr)
