#!/usr/bin/env python3
"""A customer's mail server for deploy/try: takes every message and keeps it as DIRECTORY/RECIPIENT.eml.

It is no mail server for anything else: no TLS, no limits, no checks, and the second message to a recipient replaces the first.
"""

import argparse
import asyncio
import pathlib
import re

EXTENSIONS = ["8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]


async def session(reader, writer, arguments):
    """One SMTP session, until QUIT or the end of the connection."""

    async def say(*lines):
        for place, line in enumerate(lines):
            code, text = line.split(" ", 1)
            mark = "-" if place + 1 < len(lines) else " "
            writer.write(f"{code}{mark}{text}\r\n".encode())
        await writer.drain()

    recipients = []
    await say(f"220 {arguments.name} ESMTP demo server")
    while command := (await reader.readline()).decode(errors="replace").strip():
        verb = command.split(" ")[0].upper()
        if verb == "EHLO":
            await say(*[f"250 {line}" for line in [arguments.name, *EXTENSIONS]])
        elif verb in ("HELO", "MAIL", "RSET", "NOOP"):
            recipients = []
            await say("250 2.0.0 Ok")
        elif verb == "RCPT":
            recipients.append(re.search(r"<(.*?)>", command).group(1))
            await say("250 2.1.5 Ok")
        elif verb == "DATA" and recipients:
            await say("354 End data with <CR><LF>.<CR><LF>")
            keep(await content(reader), recipients, arguments)
            await say(f"250 2.0.0 Ok: {arguments.name} took it")
        elif verb == "QUIT":
            await say("221 2.0.0 Bye")
            break
        else:
            await say("502 5.5.2 Not known here")
    writer.close()


async def content(reader):
    """Everything up to the line with a single dot, with the stuffed dots taken out."""
    lines = []
    while (line := await reader.readline()) not in (b".\r\n", b""):
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


def keep(message, recipients, arguments):
    for recipient in recipients:
        name = re.sub(r"[^A-Za-z0-9@._-]", "_", recipient) + ".eml"
        whole = arguments.directory / (name + ".part")
        whole.write_bytes(message)
        whole.rename(arguments.directory / name)
        print(f"{arguments.name} took a message of {len(message)} bytes for {recipient}", flush=True)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("directory", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    handler = lambda reader, writer: session(reader, writer, arguments)
    server = await asyncio.start_server(handler, "127.0.0.1", arguments.port, limit=16 << 20)
    print(f"{arguments.name} listens on 127.0.0.1:{arguments.port}", flush=True)
    await server.serve_forever()


asyncio.run(main())
