"""How long the log of a store in a bucket takes to read: 6,000 numbered objects, as of 10^8 rows in shards of 16,384.

    python -m bench.bucket_log [OBJECTS] [MILLISECONDS]

The server is a process of its own on loopback; it answers each request after so many milliseconds, many at once, as an
object store in the same region does. Figures: docs/decisions/150-the-log-is-read-object-by-object.md.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from urllib.parse import parse_qs, unquote, urlsplit

from featcache.files.objects import NumberedLog, ObjectPath, parse_path

_PAGE = 1000
_KEY = "features/stores/one/commits.jsonl"


def _list_page(objects: int, after: int) -> bytes:
    last = min(after + _PAGE, objects)
    entry = (
        "<Contents><Key>{}/{:012d}</Key><Size>200</Size><LastModified>2026-11-30T12:00:00Z</LastModified></Contents>"
    )
    entries = "".join(entry.format(_KEY, number) for number in range(after + 1, last + 1))
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
    tail = more if last < objects else "<IsTruncated>false</IsTruncated>"
    return f'<?xml version="1.0"?><ListBucketResult>{entries}{tail}</ListBucketResult>'.encode()


async def _serve(objects: int, seconds: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:  # the client has closed the connection
                return
            place = urlsplit(head.split(b" ", 2)[1].decode())
            query = parse_qs(place.query)
            number = int((re.findall(r"/(\d{12})$", unquote(place.path)) or ["0"])[0])
            await asyncio.sleep(seconds)
            status, body = "200 OK", b"x" * 199 + b"\n"
            if "list-type" in query:
                body = _list_page(objects, int(query.get("continuation-token", ["0"])[0]))
            elif not 1 <= number <= objects:
                status, body = "404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"
            headers = f'ETag: "x"\r\nLast-Modified: Mon, 30 Nov 2026 12:00:00 GMT\r\nContent-Length: {len(body)}'
            writer.write(f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def measure(objects: int, milliseconds: float) -> None:
    """Print the seconds of a first reading of the log, and those of the next."""
    words = [sys.executable, __file__, "serve", str(objects), str(milliseconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}", "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1",
        }  # fmt: skip
        try:
            place = parse_path(f"s3://bucket/{_KEY}")
            assert isinstance(place, ObjectPath)
            for reading in ("first", "next"):
                begun, processor = time.perf_counter(), time.process_time()
                assert len(NumberedLog(place).read()) == objects
                seconds, used = time.perf_counter() - begun, time.process_time() - processor
                print(f"{reading}: {objects:,} objects in {seconds:.2f} s, {used:.2f} s of the processor; "
                      f"{milliseconds:g} ms an answer")  # fmt: skip
        finally:
            server.terminate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(_serve(int(sys.argv[2]), float(sys.argv[3]) / 1000))
    else:
        measure(int((sys.argv[1:2] or ["6000"])[0]), float((sys.argv[2:3] or ["20"])[0]))
