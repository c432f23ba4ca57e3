#!/usr/bin/env python3
"""Hands one message to a mail server by SMTP and prints the reply that decided about it, on one line.

Ends with 0 whatever the reply was, and with 1 when there was none.
"""

import argparse
import pathlib
import re
import smtplib
import sys


def decide(server, sender, recipient, message):
    """The first refusal, or the reply to the message."""
    for step in (lambda: server.mail(sender), lambda: server.rcpt(recipient), lambda: server.data(message)):
        try:
            code, text = step()
        except smtplib.SMTPDataError as refusal:
            code, text = refusal.smtp_code, refusal.smtp_error
        if code >= 400:
            break
    return code, text.decode(errors="replace").replace("\n", " ")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("server", help="host:port")
parser.add_argument("sender")
parser.add_argument("recipient")
parser.add_argument("file", type=pathlib.Path)
arguments = parser.parse_args()

# On the wire a line ends with CRLF, whatever the file has.
content = re.sub(rb"\r\n|\r|\n", b"\r\n", arguments.file.read_bytes())
host, port = arguments.server.rsplit(":", 1)
try:
    with smtplib.SMTP(host, int(port), local_hostname="client.sender.test", timeout=60) as connection:
        connection.ehlo()
        print(*decide(connection, arguments.sender, arguments.recipient, content))
except (OSError, smtplib.SMTPException) as trouble:
    print(f"no reply: {trouble}")
    sys.exit(1)
