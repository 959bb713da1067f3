"""A program that logs to a pipe, and leaves its files for the end of the interpreter to close."""

import logging
import sys

logging.basicConfig(filename=sys.argv[1], level=logging.INFO, format="%(levelname)s %(message)s")
logger = logging.getLogger("program")
logger.info("begun")


class Report:
    def __init__(self, path):
        self.file = open(path, "w+")

    def add(self, text):
        print(text, file=self.file)

    def __repr__(self):
        return f"{report!r} {sys.argv}"


report = Report(sys.argv[1])
report.add("never closed")
report.itself = report
binary = open(sys.argv[1], "r+b")
binary.write(b"never flushed")
logger.error("ended")
