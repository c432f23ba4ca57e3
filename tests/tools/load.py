#!/usr/bin/env python3
"""Sends many numbered messages over several sessions and prints the number of each one that was answered 250, at once.

    load.py HOST:PORT FROM TO COUNT SESSIONS SIZE

A connection that breaks ends its session quietly: what was not answered is not printed. Ends when all are sent or broken.
"""
import smtplib
import sys
import threading

server, sender, recipient, count, sessions, size = sys.argv[1:]
host, port = server.rsplit(":", 1)
numbers = iter(range(int(count)))
lock = threading.Lock()


def message(number):
    head = f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: load {number}\r\nX-Number: n{number}n\r\n\r\n"
    line = "x" * 70 + "\r\n"
    return head + line * max(1, (int(size) - len(head)) // 72) + f"end of n{number}n\r\n"


def session():
    try:
        with smtplib.SMTP(host, int(port), local_hostname="load.sender.test", timeout=60) as smtp:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                smtp.sendmail(sender, [recipient], message(number))
                with lock:
                    print(number, flush=True)
    except (OSError, smtplib.SMTPException):
        return


threads = [threading.Thread(target=session) for _ in range(int(sessions))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
