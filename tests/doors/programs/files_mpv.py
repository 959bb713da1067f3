"""A client of mpv's: commands as lines of JSON, answers and events read by a thread of its own."""

import json
import queue
import sys
import threading

pipe = open(sys.argv[1], "r+b", buffering=0)
answers = queue.Queue()
events = []


def read():
    for line in pipe:
        message = json.loads(line)
        if "event" in message:
            events.append(message)
        else:
            answers.put(message)


threading.Thread(target=read, daemon=True).start()
for number, name in enumerate(["volume", "speed"]):
    pipe.write(json.dumps({"command": ["get_property", name], "request_id": number}).encode() + b"\n")
    answer = answers.get(timeout=20)
    assert answer["request_id"] == number
    print(answer["data"])
print("events", len(events))
