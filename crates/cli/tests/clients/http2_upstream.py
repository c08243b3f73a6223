"""An HTTP/2 upstream with prior knowledge that refuses, leaves, breaks and dawdles on purpose, as its paths say.

Prints its port. Every connection and every request is a line on standard output.
"""

import socket
import sys
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events


def serve(client, number, refused):
    connection = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    client.sendall(connection.data_to_send())
    while True:
        data = client.recv(65536)
        if not data:
            return
        for event in connection.receive_data(data):
            if not isinstance(event, h2.events.RequestReceived):
                continue
            path = dict(event.headers)[b":path"].decode()
            kind = path.partition("?")[0]
            print("request", number, path, flush=True)
            if kind == "/refuse-once" and path not in refused:
                refused.add(path)
                connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            elif path == "/refuse":
                connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            elif kind == "/reset":
                connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
            elif kind == "/leave-once" and path not in refused:
                refused.add(path)
                # The last stream that will be processed is the one before this one.
                connection.close_connection(h2.errors.ErrorCodes.NO_ERROR, last_stream_id=event.stream_id - 1)
            elif kind == "/leave-and-die":
                # This stream counts as processed, whatever came of it.
                connection.close_connection(h2.errors.ErrorCodes.NO_ERROR, last_stream_id=event.stream_id)
                client.sendall(connection.data_to_send())
                client.close()
                return
            elif path == "/garbage":
                # DATA on stream 0, which no connection survives.
                client.sendall(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
            elif path == "/die":
                client.close()
                return
            elif path == "/cut":
                connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "100")])
                connection.send_data(event.stream_id, b"only this")
                connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.CANCEL)
            elif path != "/hang":
                body = f"connection {number}".encode()
                connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(len(body)))])
                connection.send_data(event.stream_id, body, end_stream=True)
        client.sendall(connection.data_to_send())


def guarded(client, number, refused):
    try:
        serve(client, number, refused)
    except OSError:
        pass


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
refused = set()
number = 0
while True:
    client, _ = listener.accept()
    number += 1
    threading.Thread(target=guarded, args=(client, number, refused), daemon=True).start()
