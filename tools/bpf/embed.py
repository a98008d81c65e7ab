#!/usr/bin/env python3
"""Writes a file as a C++ array: embed.py INPUT OUTPUT."""

import sys


def main():
    with open(sys.argv[1], 'rb') as f:
        data = f.read()
    with open(sys.argv[2], 'w', encoding='ascii') as out:
        out.write('// Made from the BPF program; do not edit.\n'
                  'alignas(8) inline constexpr unsigned char kProgram[] = {\n')
        for i in range(0, len(data), 16):
            out.write('    ' + ''.join(f'{byte},' for byte in data[i:i + 16]) + '\n')
        out.write('};\n')


if __name__ == '__main__':
    main()
