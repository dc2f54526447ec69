"""Rename Python symbols across a checkout with pyright's language server.

usage: lsp_rename.py REPO SPEC [SPEC...]
A spec file has lines `path/to/module.py:Qual.name[.param] -> new_name` (comments with #).
"""
import ast, json, os, subprocess, sys, threading, time, queue
from pathlib import Path
from urllib.parse import unquote, urlparse

class Server:
    def __init__(self, repo):
        self.repo = Path(repo).resolve()
        self.p = subprocess.Popen(["nice","-n","19","node", "--max-old-space-size=4096", os.environ["PYRIGHT_LANGSERVER"], "--stdio"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.id = 0; self.answers = {}; self.cv = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        uri = self.repo.as_uri()
        self.call("initialize", {"processId": os.getpid(), "rootUri": uri, "workspaceFolders": [{"uri": uri, "name": "r"}],
            "capabilities": {"workspace": {"configuration": True, "workspaceEdit": {"documentChanges": False}, "didChangeWatchedFiles": {"dynamicRegistration": False}},
                              "textDocument": {"rename": {"prepareSupport": True}}}})
        self.note("initialized", {})
    def _send(self, m):
        b = json.dumps(m).encode()
        self.p.stdin.write(b"Content-Length: %d\r\n\r\n" % len(b) + b); self.p.stdin.flush()
    def _read(self):
        f = self.p.stdout
        while True:
            n = None
            while True:
                line = f.readline()
                if not line: return
                line = line.strip()
                if not line: break
                if line.lower().startswith(b"content-length:"): n = int(line.split(b":")[1])
            m = json.loads(f.read(n))
            if "id" in m and "method" in m:
                if m["method"] == "workspace/configuration":
                    res = []
                    for it in m["params"]["items"]:
                        s = it.get("section")
                        res.append({"pythonPath": str(self.repo/".venv/bin/python"), "analysis": {"diagnosticMode": "openFilesOnly", "indexing": False}} if s == "python"
                                   else ({"diagnosticMode": "openFilesOnly"} if s == "python.analysis" else {}))
                    self._send({"jsonrpc": "2.0", "id": m["id"], "result": res})
                else:
                    self._send({"jsonrpc": "2.0", "id": m["id"], "result": None})
            elif "id" in m:
                with self.cv:
                    self.answers[m["id"]] = m; self.cv.notify_all()
    def call(self, method, params, timeout=300):
        self.id += 1; i = self.id
        self._send({"jsonrpc": "2.0", "id": i, "method": method, "params": params})
        with self.cv:
            end = time.time() + timeout
            while i not in self.answers:
                if not self.cv.wait(end - time.time()): raise TimeoutError(method)
            m = self.answers.pop(i)
        if "error" in m: raise RuntimeError(m["error"])
        return m.get("result")
    def note(self, method, params): self._send({"jsonrpc": "2.0", "method": method, "params": params})

def locate(text, qual):
    """(line, col) 0-based of the definition's name."""
    tree = ast.parse(text); lines = text.split("\n")
    scope = [tree]
    parts = qual.split(".")
    node = tree; pos = None
    for k, part in enumerate(parts):
        hit = None
        if k and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            a = node.args
            for x in a.posonlyargs + a.args + a.kwonlyargs + [v for v in (a.vararg, a.kwarg) if v]:
                if x.arg == part: hit = x; pos = (x.lineno - 1, x.col_offset); break
        if hit is None:
            for n in (ast.walk(node) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else node.body):
                if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and n.name == part and n is not node:
                    kw = "class " if isinstance(n, ast.ClassDef) else "def "
                    line = lines[n.lineno - 1].encode()
                    c = line.index((kw + part).encode()) + len(kw)
                    hit = n; pos = (n.lineno - 1, c); break
                ts = n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, (ast.AnnAssign, ast.For, ast.comprehension)) else [i.optional_vars for i in n.items if i.optional_vars] if isinstance(n, ast.With) else []
                if isinstance(n, ast.NamedExpr): ts = [n.target]
                for t in ts:
                    for q in ast.walk(t):
                        if isinstance(q, ast.Name) and q.id == part: hit = n; pos = (q.lineno - 1, q.col_offset); break
                    if hit: break
                if hit: break
        if hit is None and isinstance(node, ast.ClassDef):   # self.x attribute
            for n in ast.walk(node):
                if isinstance(n, ast.Attribute) and n.attr == part and isinstance(n.ctx, ast.Store) and isinstance(n.value, ast.Name) and n.value.id == "self":
                    hit = n; pos = (n.end_lineno - 1, n.end_col_offset - len(part.encode())); break
        if hit is None: raise KeyError(qual)
        node = hit
    # bytes -> utf16 columns
    line = lines[pos[0]].encode()[:pos[1]].decode()
    return pos[0], len(line.encode("utf-16-le")) // 2

def apply(edits):
    for path, es in edits.items():
        text = Path(path).read_text(encoding="utf-8"); lines = text.split("\n")
        for e in sorted(es, key=lambda e: (e["range"]["start"]["line"], e["range"]["start"]["character"]), reverse=True):
            s, t = e["range"]["start"], e["range"]["end"]
            assert s["line"] == t["line"], e
            u = lines[s["line"]].encode("utf-16-le")
            lines[s["line"]] = (u[:2*s["character"]] + e["newText"].encode("utf-16-le") + u[2*t["character"]:]).decode("utf-16-le")
        Path(path).write_text("\n".join(lines), encoding="utf-8")

def main():
    repo = Path(sys.argv[1]).resolve()
    ops = []
    for f in sys.argv[2:]:
        for ln in Path(f).read_text().splitlines():
            ln = ln.split("#")[0].strip()
            if ln:
                a, b = [x.strip() for x in ln.split("->")]; path, qual = a.split(":"); ops.append((path, qual, b))
    (repo/"pyrightconfig.json").write_text(json.dumps({"include": ["alignment","embeddings","pipeline","retrieval","stores","validation","tests","benchmarks","examples"],
        "exclude": [".venv", "**/__pycache__"], "venvPath": ".", "venv": ".venv", "typeCheckingMode": "off", "useLibraryCodeForTypes": False}))
    s = Server(repo); ok = bad = 0
    from concurrent.futures import ThreadPoolExecutor
    allfiles = [p for d in ("alignment","embeddings","pipeline","retrieval","stores","validation","tests","benchmarks","examples") for p in (repo/d).rglob("*.py")]
    opened = set(); total = {}; t0 = time.time()
    def open_(p):
        if p in opened: return
        opened.add(p)
        s.note("textDocument/didOpen", {"textDocument": {"uri": p.as_uri(), "languageId": "python", "version": 1, "text": p.read_text(encoding="utf-8")}})
    try:
        time.sleep(5)
        for path, qual, new in ops:
            p = repo/path
            try:
                text = p.read_text(encoding="utf-8"); line, col = locate(text, qual)
            except (KeyError, FileNotFoundError, ValueError) as e:
                print(f"MISSING {path}:{qual} -> {new} ({type(e).__name__})", flush=True); bad += 1; continue
            open_(p)
            try:
                r = s.call("textDocument/rename", {"textDocument": {"uri": p.as_uri()}, "position": {"line": line, "character": col}, "newName": new}, 600)
            except Exception as e:
                print(f"FAILED  {path}:{qual} -> {new}: {e}", flush=True); bad += 1; continue
            n = 0
            chg = dict((r or {}).get("changes") or {})
            for d in (r or {}).get("documentChanges") or []: chg.setdefault(d["textDocument"]["uri"], []).extend(d["edits"])
            for u, es in chg.items():
                f = unquote(urlparse(u).path)
                if "/.venv/" in f: continue
                for e in es:
                    k = (f, e["range"]["start"]["line"], e["range"]["start"]["character"])
                    if k in total and total[k]["newText"] != e["newText"]: print("CLASH", k, total[k]["newText"], e["newText"], qual)
                    total[k] = e; n += 1
            ok += bool(n)
            print(f"{'ok' if n else 'EMPTY'} {path}:{qual} -> {new}: {n}, {time.time()-t0:.0f} s", flush=True)
        edits = {}
        for (f, _, _), e in total.items(): edits.setdefault(f, []).append(e)
        apply(edits)
    finally:
        s.p.kill(); (repo/"pyrightconfig.json").unlink(missing_ok=True)
    print("done", ok, "renamed,", bad, "not")
main()
