"""The HTTP edge: connections of strangers, bounded in bytes and in time, in front of an ASGI application.

HTTP/1.1 by RFC 9112, parsed strictly by llhttp (`httptools`). What can not be served is refused with an answer that reaches the
client, also while it is still sending; whoever stalls, floods or does not read is let go of, and never at the cost of others.
"""
