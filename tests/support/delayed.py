"""A server that seems to be far away: `python -m tests.support.delayed <port> <seconds>`, a process of its own.

What is sent either way arrives so much later, in order, and nothing else waits for it. Prints its own port.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

CHUNK = 256 * 1024


@contextlib.contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """The port under which the server seems to be away by so many seconds, each way."""
    command = [sys.executable, "-m", "tests.support.delayed", str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await on_its_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    data = b"-"
    while data:
        try:
            data = await reader.read(CHUNK)
        except OSError:
            data = b""
        on_its_way.put_nowait((loop.time() + seconds, data))
    with contextlib.suppress(OSError):
        await delivery


async def _serve(port: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_forward(reader, far_writer, seconds), _forward(far_reader, writer, seconds))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=CHUNK)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
