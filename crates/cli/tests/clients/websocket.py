"""A WebSocket server and client.

usage: websocket.py serve PORT | websocket.py talk URL | websocket.py silent URL
"""

import asyncio
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main(what, where):
    if what == "serve":
        async with serve(echo, "127.0.0.1", int(where), compression=None, ping_interval=None):
            await asyncio.get_running_loop().create_future()
    async with connect(where, compression=None, ping_interval=None) as socket:
        if what == "silent":
            try:
                await asyncio.wait_for(socket.recv(), 20)
            except websockets.ConnectionClosed:
                print("closed")
            return
        total = 0
        for index in range(100):
            message = chr(97 + index % 26) * 10_000
            await socket.send(message)
            got = await asyncio.wait_for(socket.recv(), 20)
            assert got == message, index
            total += len(got)
        print(f"100 messages, {total} bytes")


asyncio.run(main(*sys.argv[1:]))
