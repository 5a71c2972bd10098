"""A TCP server as server.py is one, on asyncio. `lock` waits for a task that waits for the same lock."""
import asyncio
import sys

guard = asyncio.Lock()


async def again():
    async with guard:
        return b"done\n"


async def serve(reader, writer):
    while line := await reader.readline():
        if line.startswith(b"lock"):
            async with guard:
                await asyncio.create_task(again())
        writer.write(b"done\n")


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[2]))
    await server.serve_forever()


asyncio.run(main())
