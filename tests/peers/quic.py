"""A QUIC client of another make (aioquic): one stream of ALPN sulku/1, some bytes in, what comes back out.

    quic.py PORT CA [CERTIFICATE KEY] < bytes > bytes
    quic.py --hold PORT CA [CERTIFICATE KEY]

With --hold it sends nothing, and keeps its connection until its input ends.

Prints one line about how the connection ended on standard error: `closed CODE REASON`. Exit status 0 when the handshake was done.
"""

import asyncio
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated

SECONDS = 8


class Client(QuicConnectionProtocol):
    ended = None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            Client.ended = event
        super().quic_event_received(event)


async def talk(port, configuration, sent):
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        reader, writer = await client.create_stream()
        writer.write(sent)
        received = b""
        try:
            while True:
                piece = await asyncio.wait_for(reader.read(65536), SECONDS)
                if not piece:
                    break
                received += piece
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        except asyncio.TimeoutError:
            pass


async def hold(port, configuration):
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


def main():
    arguments = sys.argv[1:]
    holds = arguments[0] == "--hold"
    port, authority, *own = arguments[holds:]
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["sulku/1"], server_name="localhost", verify_mode=ssl.CERT_REQUIRED)
    configuration.load_verify_locations(authority)
    if own:
        configuration.load_cert_chain(*own)
    try:
        asyncio.run(hold(int(port), configuration) if holds else talk(int(port), configuration, sys.stdin.buffer.read()))
    finally:
        if Client.ended is not None:
            print("closed", Client.ended.error_code, Client.ended.reason_phrase, file=sys.stderr)


main()
