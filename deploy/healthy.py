"""Ends with 0 where the server of this machine is alive, else with 1: what HEALTHCHECK runs, without curl."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=4)
try:
    connection.request("GET", "/healthz")
    sys.exit(connection.getresponse().status != 200)
except OSError:
    sys.exit(1)
