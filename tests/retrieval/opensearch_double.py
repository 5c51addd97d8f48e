"""A double of OpenSearch for tests: what its reference says of the calls that memkit makes.

It keeps the exchanges, so that tests can say what goes over the wire. It is written from the
reference of the REST API (versions 2 and 3) and was never compared with a server. BM25 is computed
by memkit's own engine: what is tested is what memkit asks for and makes of the answers.
"""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

from memkit import BM25, Passage

__all__ = ["double"]


class State:
    """The indexes, by name, and all exchanges: (method, path, parameters, body)."""

    def __init__(self):
        self.indexes, self.exchanges, self.faults = {}, [], []

    def answer(self, method, path, parameters, body):
        name, _, call = path.strip("/").partition("/")
        index = self.indexes.get(name)
        if method == "PUT" and not call:
            self.indexes[name] = {**body, "rows": {}}
            return 200, {"acknowledged": True, "index": name}
        if index is None:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        if method == "DELETE":
            del self.indexes[name]
            return 200, {"acknowledged": True}
        return getattr(self, call.strip("_") + "_" + method.lower())(name, index, body)

    def mapping_get(self, name, index, body):
        return 200, {name: {"mappings": index["mappings"]}}

    def mapping_put(self, name, index, body):
        index["mappings"] |= body
        return 200, {"acknowledged": True}

    mapping_post = mapping_put

    def bulk_post(self, name, index, body):
        items, rest = [], list(body)
        while rest:
            ((action, what),) = rest.pop(0).items()
            there = what["_id"] in index["rows"]
            if action == "delete":
                index["rows"].pop(what["_id"], None)
                items.append({action: {"_id": what["_id"], "status": 200 if there else 404}})
            else:
                row = rest.pop(0)
                if "REFUSED" in row["text"]:
                    error = {"type": "mapper_parsing_exception", "reason": "failed to parse"}
                    items.append({action: {"_id": what["_id"], "status": 400, "error": error}})
                    continue
                index["rows"][what["_id"]] = row
                items.append({action: {"_id": what["_id"], "status": 200 if there else 201}})
        return 200, {"errors": False, "items": items}

    bulk_put = bulk_post

    def refresh_post(self, name, index, body):
        return 200, {"_shards": {"failed": 0}}

    forcemerge_post = refresh_post

    def mget_post(self, name, index, body):
        docs = [{"_id": id, "found": id in index["rows"]} for id in body["ids"]]
        return 200, {"docs": docs}

    def count_post(self, name, index, body):
        return 200, {"count": len(index["rows"])}

    count_get = count_post

    def search_post(self, name, index, body):
        rows = sorted(index["rows"].values(), key=lambda row: row["id"])
        query = body.get("query")
        if query is None:
            after = body.get("search_after", [""])[0]
            hits = [(row, None) for row in rows if row["id"] > after]
        elif "match" in query:
            hits = self.matching(index, rows, query["match"]["contents"]["query"])
        else:
            if "knn" in query:
                vector, most = query["knn"]["vector"]["vector"], query["knn"]["vector"]["k"]
                if "method" not in index["mappings"]["properties"]["vector"]:
                    return 400, {"error": {"type": "illegal_argument_exception"}, "status": 400}
            else:
                vector, most = query["script_score"]["script"]["params"]["query_value"], None
            products = [sum(a * b for a, b in zip(vector, r["vector"], strict=True)) for r in rows]
            scores = [x + 1 if x >= 0 else 1 / (1 - x) for x in products]
            hits = sorted(zip(rows, scores, strict=True), key=lambda hit: (-hit[1], hit[0]["id"]))
            hits = hits[:most]
        shown = [
            {"_id": row["id"], "_score": score, "_source": row, "sort": [row["id"]]}
            for row, score in hits[: body["size"]]
        ]
        total = {"value": len(hits), "relation": "eq"}
        return 200, {
            "timed_out": False,
            "_shards": {"total": 1, "failed": 0},
            "hits": {"total": total, "hits": shown},
        }

    def matching(self, index, rows, query):
        settings = index["settings"]["index"]["similarity"]["memkit"]
        passages = [Passage(row["id"], row["contents"]) for row in rows]
        k1, b = settings["k1"], settings["b"]
        with BM25.build(passages, engine="bm25s", k1=k1, b=b) as local:
            found = local.search([query], len(passages))[0]
        return [(index["rows"][hit.passage.id], hit.score) for hit in found]


@contextmanager
def double():
    """Its address and its state; on 127.0.0.1, gone at the end."""
    state = State()

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one(self):
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length).decode()
            lines = [json.loads(line) for line in text.split("\n") if line] if text else []
            url = urlsplit(self.path)
            path, bulk = unquote(url.path), url.path.endswith("_bulk")
            body = lines if bulk else (lines[0] if lines else None)
            exchange = (self.command, path, parse_qs(url.query), body)
            state.exchanges.append(exchange)
            code, answer = state.faults.pop(0) if state.faults else state.answer(*exchange)
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()
