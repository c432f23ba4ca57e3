#!/usr/bin/env python3
"""Sends one file with Python's smtplib and prints what it was told, as one line of JSON.

    send.py HOST:PORT FROM TO[,TO…] FILE [--starttls] [--raw]

Prints {"code": 250, "reply": "2.0.0 Ok: queued as …", "refused": {"to": [451, "…"]}}. --raw keeps the file's line ends.
"""
import json
import smtplib
import ssl
import sys

server, sender, recipients, path, *options = sys.argv[1:]
host, port = server.rsplit(":", 1)
content = open(path, "rb").read()
if "--raw" not in options:
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

refused = {}
with smtplib.SMTP(host, int(port), local_hostname="client.sender.test", timeout=60) as smtp:
    smtp.ehlo()
    if "--starttls" in options:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        smtp.starttls(context=context)
        smtp.ehlo()
    code, reply = smtp.mail(sender, ["size=%d" % len(content)])
    if code == 250:
        for recipient in recipients.split(","):
            code, reply = smtp.rcpt(recipient)
            if code != 250:
                refused[recipient] = [code, reply.decode()]
        if len(refused) < len(recipients.split(",")):
            # SMTP.data() would turn bare line ends into CRLF; the text goes out as it stands.
            code, reply = smtp.docmd("DATA")
            if code == 354:
                stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
                smtp.send(stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n")
                code, reply = smtp.getreply()
print(json.dumps({"code": code, "reply": reply.decode(), "refused": refused}))
