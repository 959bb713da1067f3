"""A client of frames: a length and a text each, on one handle without a buffer, as C# servers are talked to."""

import struct
import sys

f = open(sys.argv[1], "r+b", 0)
for i in range(3):
    s = f"Message[{i}]".encode("ascii")
    f.write(struct.pack("I", len(s)) + s)
    f.seek(0)
    n = struct.unpack("I", f.read(4))[0]
    s = f.read(n).decode("ascii")
    f.seek(0)
    print(s)
f.close()
