"""Says when each value of a key became visible at a node: ``poller.py PORT KEY``.

Polls until its standard input ends, then prints, by value, the moment (CLOCK_MONOTONIC, ns) at which
the last poll that did not see it yet was sent: the earliest moment at which it can have been
visible, so that what is measured against it is never flattered.
"""

import json
import select
import socket
import sys
import time

PAUSE_S = 0.00005
"""Between two polls: a poller without pause would take the cores that it measures."""


def main(port: int, key: str) -> None:
    """Poll until told to stop."""
    command = b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key.encode())
    earliest: dict[str, int] = {}
    seen, before = b"", time.monotonic_ns()
    with socket.create_connection(("127.0.0.1", port)) as node:
        node.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("polling", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            sent = time.monotonic_ns()
            node.sendall(command)
            answer = node.recv(4096)
            if answer != seen:
                seen = answer
                earliest[answer.split(b"\r\n")[1].decode()] = before
            before = sent
            time.sleep(PAUSE_S)
    print(json.dumps(earliest), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
