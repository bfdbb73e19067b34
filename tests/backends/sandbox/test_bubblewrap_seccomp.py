import errno
import struct

import pytest

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.limits.seccomp import compile_filter
from tumbler_backends.sandbox.bubblewrap.limits.syscall_table import DENIED, NUMBERS

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def evaluate(machine, number, *arguments, architecture=None):
    """Run the filter as the kernel would."""
    program = list(struct.iter_unpack("<HBBI", compile_filter(machine)))
    wide = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, architecture or MACHINES[machine][1], 0, *wide)
    position, value = 0, 0
    while True:
        code, if_true, if_false, operand = program[position]
        position += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", MACHINES)
def test_denied_calls_fail_and_others_pass(machine):
    column = MACHINES[machine][0]
    numbers = {NUMBERS[name][column] for name in DENIED} - {None}
    special = {NUMBERS[name][column] for name in NUMBERS if name not in DENIED}
    for number in range(500):
        if number in numbers:
            assert evaluate(machine, number) == ERRNO | errno.EPERM
        elif number not in special:
            assert evaluate(machine, number) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide_where_a_call_has_both_uses(machine):
    def verdict(name, *arguments):
        return evaluate(machine, NUMBERS[name][MACHINES[machine][0]], *arguments)

    denied = ERRNO | errno.EPERM
    assert verdict("clone3") == ERRNO | errno.ENOSYS
    assert verdict("clone", 0x10000000 | 17) == denied
    assert verdict("clone", 0x01200011) == ALLOW
    assert verdict("unshare", 0x10000000) == denied
    assert verdict("unshare", 0x400) == ALLOW
    assert verdict("ioctl", 0, 0x5412) == denied
    assert verdict("ioctl", 0, 0xFFFFFFFF00005412) == denied
    assert verdict("ioctl", 0, 0x5401) == ALLOW
    assert verdict("socket", 1) == verdict("socket", 2) == verdict("socket", 10) == ALLOW
    assert verdict("socket", 40) == ERRNO | errno.EAFNOSUPPORT
    assert verdict("socketpair", 1) == ALLOW
    assert verdict("socketpair", 30) == ERRNO | errno.EAFNOSUPPORT
    assert verdict("fcntl", 3, 1024) == verdict("fcntl", 3, 1040) == verdict("ioctl", 0, 0x5423) == denied
    assert verdict("fcntl", 3, 1030) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_a_limit_of_core_files_is_set_in_appearance_only(machine):
    def verdict(name, *arguments):
        return evaluate(machine, NUMBERS[name][MACHINES[machine][0]], *arguments)

    pretended = ERRNO | 0
    assert verdict("setrlimit", 4) == verdict("prlimit64", 0, 4, 1 << 40) == verdict("prlimit64", 0, 4, 16) == pretended
    assert verdict("prlimit64", 0, 4, 0) == verdict("prlimit64", 0, 7, 16) == verdict("setrlimit", 7) == ALLOW


def test_other_architectures_and_the_x32_interface_are_refused():
    assert evaluate("x86_64", 0, architecture=0x40000003) == KILL
    assert evaluate("x86_64", 0x40000000 | 165) == ERRNO | errno.ENOSYS
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        compile_filter("riscv64")
