"""Reads the dynamic symbol table of a 64-bit little-endian ELF object."""

import collections
import struct

Symbol = collections.namedtuple('Symbol', 'name version is_default address kind defined')

SHT_DYNSYM = 11
SHT_GNU_VERDEF = 0x6FFFFFFD
SHT_GNU_VERSYM = 0x6FFFFFFF
STT_FUNC = 2
STT_GNU_IFUNC = 10
HIDDEN = 0x8000


def _string(data, table, offset):
    start = table + offset
    return data[start:data.index(b'\0', start)].decode()


def _versions(data, section, strings):
    """Names of the version indices that the object defines."""
    names = {}
    at = section['offset']
    for _ in range(section['info']):
        _, _, index, _, _, aux, following = struct.unpack_from('<HHHHIII', data, at)
        name, _ = struct.unpack_from('<II', data, at + aux)
        names[index] = _string(data, strings, name)
        at += following
    return names


def read(path):
    """Returns the object's dynamic symbols."""
    with open(path, 'rb') as file:
        data = file.read()
    if data[:6] != b'\x7fELF\x02\x01':
        raise ValueError(f'{path}: not a 64-bit little-endian ELF object')
    offset, = struct.unpack_from('<Q', data, 40)
    size, count = struct.unpack_from('<HH', data, 58)
    keys = ('name', 'type', 'flags', 'addr', 'offset', 'size', 'link', 'info', 'align', 'entsize')
    sections = [dict(zip(keys, struct.unpack_from('<IIQQQQIIQQ', data, offset + i * size)))
                for i in range(count)]
    by_type = {section['type']: section for section in sections}
    table = by_type[SHT_DYNSYM]
    strings = sections[table['link']]['offset']
    versym = by_type.get(SHT_GNU_VERSYM)
    verdef = by_type.get(SHT_GNU_VERDEF)
    versions = _versions(data, verdef, strings) if verdef else {}
    symbols = []
    for i in range(1, table['size'] // 24):
        name, info, _, section, address, _ = struct.unpack_from('<IBBHQQ', data,
                                                                table['offset'] + i * 24)
        index = struct.unpack_from('<H', data, versym['offset'] + i * 2)[0] if versym else 1
        symbols.append(Symbol(_string(data, strings, name), versions.get(index & ~HIDDEN, ''),
                              not index & HIDDEN, address, info & 15, section != 0))
    return symbols


def functions(path):
    """Returns the functions that the object exports."""
    return [s for s in read(path) if s.defined and s.kind in (STT_FUNC, STT_GNU_IFUNC)]
