"""What is sent and asked for by the cases of several SDKs."""

import base64
import struct
import zlib

# Quotes, escapes, control characters, two scripts, a character outside the basic plane.
EVERY_CHARACTER = "\"quoted\" \\back\\ \n\t\u0001 Grüße 日本語 🦀 </script> \u2028 end"


def png():
    """A picture of 8 by 8 red dots, base64."""

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    dots = zlib.compress((b"\0" + b"\xff\0\0" * 8) * 8)
    head = part(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", dots) + part(b"IEND", b"")).decode()
