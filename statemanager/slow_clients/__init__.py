"""Serves the WSGI application so that a slow client costs no thread.

The event loop receives a request to its end before a thread works on it, and sends what the thread
made. A client that sends or reads slowly, or not at all, occupies a connection and nothing else.

Views run in a fixed pool of threads, each with its own database connection, as they would under a
WSGI server. Django's own ASGI handler would run them in threads of its choice, without a limit.
"""
