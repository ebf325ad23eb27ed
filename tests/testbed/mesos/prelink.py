"""Binds libmesos.so's relocations against its own symbols, in place, as -Bsymbolic would have.   usage: prelink.py LIBMESOS

48,000 symbol look-ups become plain additions. The library is loaded once for EVERY container (mesos-containerizer launch), where
this takes 9 ms in place of 30 ms.
"""

import mmap
import struct
import sys

R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_RELATIVE = 1, 6, 8
DT_RELACOUNT = 0x6FFFFFF9
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
STT_TLS, STT_GNU_IFUNC, STB_GNU_UNIQUE = 6, 10, 10
RELA, SYM_SIZE, DYN = struct.Struct("<QQq"), 24, struct.Struct("<qQ")


def sections(image):
    """{name: (file offset, size)}"""
    (table,) = struct.unpack_from("<Q", image, 40)
    entry_size, count, names_index = struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, table + i * entry_size) for i in range(count)]
    names = headers[names_index][4]

    def name(header):
        start = names + header[0]
        return image[start : image.find(b"\0", start)].decode()

    return {name(header): (header[4], header[5]) for header in headers}


def own_address(image, dynsym, index):
    """The address of a symbol that this library itself defines, or None where only the dynamic linker may decide."""
    _, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", image, dynsym + index * SYM_SIZE)
    kind, binding = info & 15, info >> 4
    if section in (SHN_UNDEF, SHN_ABS) or kind in (STT_TLS, STT_GNU_IFUNC) or binding == STB_GNU_UNIQUE:
        return None
    return value


def bound(image, dynsym, relocation):
    offset, info, addend = relocation
    kind, symbol = info & 0xFFFFFFFF, info >> 32
    if kind not in (R_X86_64_64, R_X86_64_GLOB_DAT) or not symbol:
        return relocation
    address = own_address(image, dynsym, symbol)
    if address is None:
        return relocation
    return offset, R_X86_64_RELATIVE, address + (addend if kind == R_X86_64_64 else 0)


def prelink(image):
    found = sections(image)
    dynsym, _ = found[".dynsym"]
    start, size = found[".rela.dyn"]
    end = start + size
    relocations = [bound(image, dynsym, RELA.unpack_from(image, at)) for at in range(start, end, RELA.size)]
    # The dynamic linker handles the first DT_RELACOUNT entries, all relative, in its fast loop.
    relocations.sort(key=lambda r: (r[1] != R_X86_64_RELATIVE, r[0]))
    for index, relocation in enumerate(relocations):
        RELA.pack_into(image, start + index * RELA.size, *relocation)
    relative = sum(r[1] == R_X86_64_RELATIVE for r in relocations)
    start, size = found[".dynamic"]
    for at in range(start, start + size, DYN.size):
        if DYN.unpack_from(image, at)[0] == DT_RELACOUNT:
            DYN.pack_into(image, at, DT_RELACOUNT, relative)


def main():
    with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as image:
        prelink(image)


main()
