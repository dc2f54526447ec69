"""Rename module-level names across a checkout by scope and import analysis (no types needed).

usage: fast_rename.py REPO SPEC...   handles `path.py:name -> new`; prints the lines it leaves (members, parameters).
"""
import ast, re, sys
from pathlib import Path

CODE = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation", "tests", "benchmarks", "examples", "docs")

def dotted(path): return path[:-3].replace("/", ".").removesuffix(".__init__")

class Scope:
    def __init__(self, node, parent, kind): self.node, self.parent, self.kind, self.names, self.globals = node, parent, kind, {}, set()
    def bind(self, name, what=None): 
        if name not in self.globals: self.names.setdefault(name, []).append(what)

class Binder(ast.NodeVisitor):
    """Scopes and bindings; uses are collected as (Name node, scope)."""
    def __init__(self, tree):
        self.root = self.scope = Scope(tree, None, "module"); self.uses = []; self.attrs = []; self.imports = []; self.ann = []
        for n in tree.body: self.visit(n)
    def inside(self, node, kind):
        outer = self.scope; self.scope = Scope(node, outer, kind); return outer
    def visit_FunctionDef(self, n):
        self.scope.bind(n.name, n)
        for d in n.decorator_list: self.visit(d)
        a = n.args
        for x in a.defaults + [d for d in a.kw_defaults if d]: self.visit(x)
        for x in a.posonlyargs + a.args + a.kwonlyargs + [v for v in (a.vararg, a.kwarg) if v]:
            if x.annotation: self.annotation(x.annotation)
        if n.returns: self.annotation(n.returns)
        outer = self.inside(n, "function")
        for x in a.posonlyargs + a.args + a.kwonlyargs + [v for v in (a.vararg, a.kwarg) if v]: self.scope.bind(x.arg)
        for x in ast.walk(n):
            if isinstance(x, ast.Global): self.scope.globals |= set(x.names)
        for x in n.body: self.visit(x)
        self.scope = outer
    visit_AsyncFunctionDef = visit_FunctionDef
    def visit_Lambda(self, n):
        for x in n.args.defaults + [d for d in n.args.kw_defaults if d]: self.visit(x)
        outer = self.inside(n, "function")
        for x in n.args.args + n.args.kwonlyargs + [v for v in (n.args.vararg, n.args.kwarg) if v]: self.scope.bind(x.arg)
        self.visit(n.body); self.scope = outer
    def visit_ClassDef(self, n):
        self.scope.bind(n.name, n)
        for x in n.decorator_list + n.bases + [k.value for k in n.keywords]: self.visit(x)
        outer = self.inside(n, "class")
        for x in n.body: self.visit(x)
        self.scope = outer
    def comp(self, n, elts):
        self.visit(n.generators[0].iter)
        outer = self.inside(n, "function")
        for i, g in enumerate(n.generators):
            self.visit(g.target)
            if i: self.visit(g.iter)
            for c in g.ifs: self.visit(c)
        for e in elts: self.visit(e)
        self.scope = outer
    def visit_ListComp(self, n): self.comp(n, [n.elt])
    visit_SetComp = visit_GeneratorExp = visit_ListComp
    def visit_DictComp(self, n): self.comp(n, [n.key, n.value])
    def visit_Name(self, n):
        if isinstance(n.ctx, (ast.Store, ast.Del)): self.scope.bind(n.id, n)
        self.uses.append((n, self.scope))
    def visit_NamedExpr(self, n):
        self.visit(n.value); s = self.scope
        while isinstance(s.node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)): s = s.parent
        s.bind(n.target.id, n); self.uses.append((n.target, s))
    def visit_ExceptHandler(self, n):
        if n.type: self.visit(n.type)
        if n.name: self.scope.bind(n.name)
        for x in n.body: self.visit(x)
    def visit_Import(self, n):
        for a in n.names:
            self.scope.bind(a.asname or a.name.split(".")[0], ("import", a)); self.imports.append((n, a, self.scope))
    def visit_ImportFrom(self, n):
        for a in n.names: self.scope.bind(a.asname or a.name, ("from", n.module, a)); self.imports.append((n, a, self.scope))
    def visit_AnnAssign(self, n):
        self.visit(n.target); self.annotation(n.annotation)
        if n.value: self.visit(n.value)
    def annotation(self, n):
        self.visit(n)
        for x in ast.walk(n):
            if isinstance(x, ast.Constant) and isinstance(x.value, str): self.ann.append((x, self.scope))
    def visit_Call(self, n):
        if isinstance(n.func, ast.Name) and n.func.id in ("cast", "TypeVar") and n.args:
            for x in n.args:
                if isinstance(x, ast.Constant) and isinstance(x.value, str): self.ann.append((x, self.scope))
        self.generic_visit(n)
    def visit_Attribute(self, n): self.attrs.append((n, self.scope)); self.generic_visit(n)
    def lookup(self, name, scope):
        s, first = scope, True
        while s:
            if (s.kind != "class" or first) and name in s.names: return s
            first = False; s = s.parent
        return None

def chain(n):
    parts = []
    while isinstance(n, ast.Attribute): parts.append(n.attr); n = n.value
    return (n, list(reversed(parts))) if isinstance(n, ast.Name) else (None, [])

def main():
    repo = Path(sys.argv[1]).resolve(); ops, rest = {}, []
    for f in sys.argv[2:]:
        for ln in Path(f).read_text().splitlines():
            ln = ln.split("#")[0].strip()
            if not ln: continue
            a, new = [x.strip() for x in ln.split("->")]; path, qual = a.split(":")
            if "." in qual: rest.append(ln); continue
            if not (repo/path).exists(): print("MISSING file", ln); continue
            ops[(dotted(path), qual)] = new
    hits = dict.fromkeys(ops, 0)
    pk = {}                                      # (package, name) re-exports
    for (m, q), new in ops.items():
        p = m
        while "." in p: p = p.rpartition(".")[0]; pk.setdefault((p, q), []).append((m, new))
    files = [p for d in CODE for p in (repo/d).rglob("*.py")]
    modules = {dotted(p.relative_to(repo).as_posix()) for p in files}
    for _ in range(2):                           # names that a module imports and others take from it
        for p in files:
            me = dotted(p.relative_to(repo).as_posix())
            for n in ast.walk(ast.parse(p.read_text(encoding="utf-8"))):
                if isinstance(n, ast.ImportFrom) and n.module and not p.name == "__init__.py":
                    for a in n.names:
                        key = (n.module, a.name)
                        hit = (key, ops[key]) if key in ops else (pk[key][0] if len(pk.get(key, [])) == 1 else None)
                        if hit and not a.asname and (me, a.name) not in ops: pk[(me, a.name)] = [(hit[0] if isinstance(hit[0], tuple) else (hit[0], a.name), hit[1])]
    for p in files: one(repo, p, ops, pk, hits, modules)
    for k, n in hits.items():
        if not n: print("UNUSED", k)
    Path(sys.argv[2]).with_name("members.spec").write_text("\n".join(rest) + "\n"); print(len(ops), "names,", len(rest), "members left in members.spec")

def one(repo, p, ops, pk, hits, modules):
    me = dotted(p.relative_to(repo).as_posix()); text = p.read_text(encoding="utf-8")
    tree = ast.parse(text); b = Binder(tree)
    lines = text.split("\n"); offs = [0]
    for l in lines: offs.append(offs[-1] + len(l) + 1)
    def off(line, col): return offs[line-1] + len(lines[line-1].encode()[:col].decode())
    edits = {}
    def edit(start, old, new, key):
        assert text[start:start+len(old)] == old, (p, text[start:start+20], old)
        edits[start] = (old, new); hits[key] += 1
    def export(package, name):
        c = pk.get((package, name), [])
        if len(c) == 1: return (c[0][0][0], c[0][1], c[0][0]) if isinstance(c[0][0], tuple) else (c[0][0], c[0][1], (c[0][0], name))
        return None
    local = {}                                    # (scope id, name) -> (new, key)
    for (m, q), new in ops.items():
        if m == me and q in b.root.names: local[(id(b.root), q)] = (new, (m, q))
        elif m == me: print("NOT FOUND", m, q)
    mods = {}                                     # (scope id, local name) -> dotted module
    for n, a, scope in b.imports:
        if isinstance(n, ast.Import):
            mods[(id(scope), a.asname or a.name.split(".")[0])] = a.name if a.asname else a.name.split(".")[0]; continue
        key = (n.module, a.name); hit = (ops[key], key) if key in ops else None
        if hit is None and f"{n.module}.{a.name}" in modules: mods[(id(scope), a.asname or a.name)] = f"{n.module}.{a.name}"; continue
        if hit is None and (e := export(n.module, a.name)): hit = (e[1], e[2])
        if hit is None: continue
        seg = text[off(a.lineno, a.col_offset):off(a.end_lineno, a.end_col_offset)]
        edit(off(a.lineno, a.col_offset), a.name, hit[0], hit[1])
        if not a.asname: local[(id(scope), a.name)] = hit
    for n, scope in b.uses:
        s = b.lookup(n.id, scope)
        if s and (h := local.get((id(s), n.id))): edit(off(n.lineno, n.col_offset), n.id, *h)
    for n in ast.walk(tree):                      # definitions and global statements
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and n in tree.body and (h := local.get((id(b.root), n.name))):
            line = lines[n.lineno-1]; kw = re.search(r"(?:async\s+)?(?:def|class)\s+", line); edit(offs[n.lineno-1] + kw.end(), n.name, *h)
    for n, scope in b.attrs:
        root, parts = chain(n)
        if root is None: continue
        s = b.lookup(root.id, scope)
        base = mods.get((id(s), root.id)) if s else None
        if not base: continue
        full = ".".join([base, *parts[:-1]]); key = (full, parts[-1]); new = ops.get(key)
        if new is None and full not in modules: pass
        if new is None and (e := export(full, parts[-1])): new, key = e[1], e[2]
        if new: edit(off(n.end_lineno, n.end_col_offset) - len(parts[-1]), parts[-1], new, key)
    for n, scope in b.ann:
        start, end = off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset)
        for m in re.finditer(r"(?<![\w.])[A-Za-z_]\w*", text[start:end]):
            s = b.lookup(m[0], scope)
            if s and (h := local.get((id(s), m[0]))): edit(start + m.start(), m[0], *h)
    for n in ast.walk(tree):                      # monkeypatch.setattr(module, "name", ...)
        if isinstance(n, ast.Call) and isinstance(n.func, (ast.Attribute, ast.Name)) and (n.func.attr if isinstance(n.func, ast.Attribute) else n.func.id) in ("setattr", "getattr", "delattr", "hasattr") and len(n.args) > 1 and isinstance(n.args[1], ast.Constant):
            root, parts = chain(n.args[0])
            if root is None: continue
            for (sid, nm), d in list(mods.items()):
                if nm == root.id:
                    key = (".".join([d, *parts]), n.args[1].value)
                    h = (ops[key], key) if key in ops else ((lambda e: e and (e[1], e[2]))(export(*key)))
                    if h: edit(off(n.args[1].lineno, n.args[1].col_offset) + 1, n.args[1].value, *h); break
    # facades and dotted strings
    for n in ast.walk(tree):
        if isinstance(n, ast.Constant) and isinstance(n.value, str):
            start, end = off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset)
            if p.name == "__init__.py":
                e = export(me, n.value)
                if e and text[start+1:end-1] == n.value: edit(start+1, n.value, e[1], e[2]); continue
                m = re.fullmatch(r"([\w.]+)", n.value)
            for m in re.finditer(r"([a-z_]+(?:\.[a-z_]+)+)[.:]([A-Za-z_]\w*)", text[start:end]):
                key = (m[1], m[2])
                if key in ops: edit(start + m.start(2), m[2], ops[key], key)
                elif e := export(*key): edit(start + m.start(2), m[2], e[1], e[2])
            for m in re.finditer(r"([a-z_]+(?:\.[a-z_]+)*) import ([A-Za-z_, ]+)", text[start:end]):   # programs in strings
                for w in re.finditer(r"[A-Za-z_]\w*", m[2]):
                    key = (m[1], w[0]); h = ops.get(key) and (ops[key], key)
                    if not h and (e := export(*key)): h = (e[1], e[2])
                    if h: edit(start + m.start(2) + w.start(), w[0], *h)
    if me in modules and any(isinstance(n, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in n.targets) for n in tree.body):
        for n in tree.body:
            if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and n.targets[0].id == "__all__":
                for c in ast.walk(n.value):
                    if isinstance(c, ast.Constant) and (h := local.get((id(b.root), c.value))): edit(off(c.lineno, c.col_offset)+1, c.value, *h)
    if edits:
        for start in sorted(edits, reverse=True):
            old, new = edits[start]; text = text[:start] + new + text[start+len(old):]
        p.write_text(text, encoding="utf-8")
main()
