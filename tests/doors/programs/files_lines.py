"""A client of lines, as text; it waits until there is a pipe of the name."""

import os
import sys
import time

print("waiting", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
with open(sys.argv[1], "r+") as pipe:
    pipe.write("hello\n")
    pipe.flush()
    print([line.rstrip("\n") for line in pipe])
