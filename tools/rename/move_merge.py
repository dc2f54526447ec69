"""Move and merge modules and rewrite every import, dotted string and path of the checkout.

usage: move_merge.py REPO SPEC      lines: new/path.py <- old/a.py [old/b.py ...]
Bodies of merged modules stand in the order given; the docstring is the first one's.
"""
import ast, io, re, subprocess, sys, tokenize
from pathlib import Path

TOP = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
CODE = (*TOP, "tests", "benchmarks", "examples")

def dotted(path): return path[:-3].replace("/", ".").removesuffix(".__init__")

def read_spec(f):
    spec = {}
    for ln in Path(f).read_text().splitlines():
        ln = ln.split("#")[0].strip()
        if ln:
            new, olds = [x.strip() for x in ln.split("<-")]; spec[new] = olds.split()
    return spec

def main():
    repo = Path(sys.argv[1]).resolve(); spec = read_spec(sys.argv[2])
    for new, olds in list(spec.items()):
        missing = [o for o in olds if not (repo/o).exists()]
        for o in missing: print("MISSING", o)
        spec[new] = [o for o in olds if o not in missing]
        if not spec[new]: del spec[new]
    mapping = {dotted(o): dotted(n) for n, olds in spec.items() for o in olds}
    files = [p for d in CODE for p in (repo/d).rglob("*.py")] + ([repo/"docs/hooks/generated.py"] if (repo/"docs/hooks/generated.py").exists() else [])
    for p in files: rewrite(p, mapping, repo)
    for new, olds in spec.items(): merge(repo, new, olds, mapping)
    textual(repo, {o: n for n, olds in spec.items() for o in olds}, mapping)

# ---- imports in one file
def rewrite(p, mapping, repo):
    text = p.read_text(encoding="utf-8")
    tree = ast.parse(text)
    edits = []          # (start offset, end offset, new)
    renames = {}        # local module alias -> new alias
    lines = text.split("\n"); offs = [0]
    for l in lines: offs.append(offs[-1] + len(l) + 1)
    def off(line, bytecol): return offs[line-1] + len(lines[line-1].encode()[:bytecol].decode())
    names_used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {a.arg for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda)) for a in n.args.args + n.args.kwonlyargs}
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.module and not n.level:
            new_module = mapping.get(n.module)
            keep, moved = [], []
            for a in n.names:
                full = f"{n.module}.{a.name}"
                if full in mapping: moved.append((a, mapping[full]))
                else: keep.append(a)
            if not moved and not new_module: continue
            indent = " " * n.col_offset
            out = []
            if keep:
                out.append(f"from {new_module or n.module} import " + ", ".join(a.name + (f" as {a.asname}" if a.asname else "") for a in keep))
            for a, new in moved:
                parent, _, last = new.rpartition(".")
                local = a.asname or a.name
                alias = a.asname
                if not alias and last != a.name:
                    if last in names_used or last in renames.values(): alias = last + "_module"
                    renames[a.name] = alias or last
                out.append(f"from {parent} import {last}" + (f" as {alias}" if alias else ""))
            edits.append((off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset), ("\n" + indent).join(out)))
        elif isinstance(n, ast.Import):
            if any(a.name in mapping for a in n.names):
                indent = " " * n.col_offset
                edits.append((off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset),
                    ("\n" + indent).join(f"import {mapping.get(a.name, a.name)}" + (f" as {a.asname}" if a.asname else "") for a in n.names)))
        elif isinstance(n, ast.Attribute):
            d = chain(n)
            if d in mapping and d.split(".")[0] in TOP:
                edits.append((off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset), mapping[d]))
        elif isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value and n.lineno == n.end_lineno:
            src = text[off(n.lineno, n.col_offset):off(n.end_lineno, n.end_col_offset)]
            new = dotted_strings(src, mapping)
            if new != src: edits.append((off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset), new))
    for n in ast.walk(tree):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in renames and renames[n.id] != n.id:
            edits.append((off(n.lineno, n.col_offset), off(n.end_lineno, n.end_col_offset), renames[n.id]))
    if not edits: return
    seen = set()
    for s, e, new in sorted(set(edits), reverse=True):
        if any(s < b and a < e and (a, b) != (s, e) for a, b in seen): continue
        if (s, e) in seen: continue
        seen.add((s, e)); text = text[:s] + new + text[e:]
    p.write_text(text, encoding="utf-8")

def chain(n):
    parts = []
    while isinstance(n, ast.Attribute): parts.append(n.attr); n = n.value
    return ".".join([n.id, *reversed(parts)]) if isinstance(n, ast.Name) else ""

def dotted_strings(s, mapping):
    for old in sorted(mapping, key=len, reverse=True):
        if "." in old and old in s:
            s = re.sub(r"(?<![\w./])" + re.escape(old) + r"(?![\w])(?!\.py)(?!/)", "\0" + mapping[old], s)
    return s.replace("\0", "")

# ---- merging
def split(text):
    """docstring, import statements (text), TYPE_CHECKING blocks, rest."""
    tree = ast.parse(text); lines = text.split("\n")
    doc = ast.get_docstring(tree, clean=False); body = tree.body
    imports, typing, start, rest = [], [], 0, []
    if doc is not None: body = body[1:]; start = tree.body[0].end_lineno
    drop = set(range(0, start))
    for n in body:
        a = n.lineno - 1; b = n.end_lineno
        if isinstance(n, (ast.Import, ast.ImportFrom)):
            imports.append("\n".join(lines[a:b])); drop |= set(range(a, b))
        elif isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING" and all(isinstance(x, (ast.Import, ast.ImportFrom)) for x in n.body):
            typing += ["\n".join(l.removeprefix("    ") for l in lines[x.lineno-1:x.end_lineno]) for x in n.body]; drop |= set(range(a, b))
    rest = "\n".join(l for i, l in enumerate(lines) if i not in drop).strip("\n")
    return doc, imports, typing, rest

def toplevel(text):
    names = {}
    for n in ast.parse(text).body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)): names[n.name] = ast.unparse(n)
        elif isinstance(n, (ast.Assign, ast.AnnAssign)):
            for t in (n.targets if isinstance(n, ast.Assign) else [n.target]):
                for q in ast.walk(t):
                    if isinstance(q, ast.Name): names[q.id] = ast.unparse(n)
    return names

def merge(repo, new, olds, mapping):
    target = repo/new; target.parent.mkdir(parents=True, exist_ok=True)
    init = target.parent/"__init__.py"
    if not init.exists() and new.split("/")[0] in TOP: init.write_text('"""TODO package docstring."""\n'); subprocess.run(["git", "-C", str(repo), "add", str(init)], check=True)
    if olds == [new]: return
    if target.exists() and len(olds) == 1: target.unlink(); subprocess.run(["git","-C",str(repo),"rm","-q","-f","--cached",new])
    if len(olds) == 1:
        subprocess.run(["git", "-C", str(repo), "mv", olds[0], new], check=True); return
    me = dotted(new); parts = [split((repo/o).read_text(encoding="utf-8")) for o in olds]
    bodies, seen = [], {}
    imports, typing = [], []
    parent, _, last = me.rpartition(".")
    for o, (doc, imp, typ, rest) in zip(olds, parts):
        mine = set()
        for st in imp + typ:
            n = ast.parse(st).body[0]
            if isinstance(n, ast.ImportFrom) and n.module == parent: mine |= {a.asname or a.name for a in n.names if a.name == last}
        rest = re.sub(r"^[ \t]+from " + re.escape(parent) + r" import " + last + r"(?: as (\w+))?[ \t]*(?:#.*)?\n", lambda m: (mine.add(m[1] or last), "")[1], rest + "\n", flags=re.M).rstrip("\n")
        for a in mine: rest = re.sub(r"(?<![\w.])" + a + r"\.(?=[a-zA-Z_])", "", rest)
        dup = []
        for name, src in toplevel(rest).items():
            if name in seen:
                if seen[name][1] == src: dup.append(name)
                else: print(f"COLLISION {new}: {name} in {o} and {seen[name][0]}")
            else: seen[name] = (o, src)
        for name in dup: rest = remove(rest, name); print(f"  same twice, once now: {name} in {new}")
        bodies.append((doc, rest)); imports += imp; typing += typ
    aliases = set()
    def intra(stmts):
        out = []
        for s in stmts:
            n = ast.parse(s).body[0]
            if isinstance(n, ast.ImportFrom) and n.module == me:
                for a in n.names:
                    if a.asname: print(f"ALIAS {new}: {a.name} as {a.asname}")
                continue
            if isinstance(n, ast.ImportFrom) and f"{n.module}." in me + "." and any(f"{n.module}.{a.name}" == me for a in n.names):
                aliases.update(a.asname or a.name for a in n.names if f"{n.module}.{a.name}" == me)
                left = [a for a in n.names if f"{n.module}.{a.name}" != me]
                if left: out.append(f"from {n.module} import " + ", ".join(a.name for a in left))
                continue
            out.append(s)
        return out
    imports, typing = intra(imports), intra(typing)
    text = f'"""{bodies[0][0]}"""\n\n' if bodies[0][0] else ""
    text += "\n".join(dict.fromkeys(imports)) + "\n"
    if typing: text += "\nif TYPE_CHECKING:\n" + "\n".join("    " + l for s in dict.fromkeys(typing) for l in s.split("\n")) + "\n"
    alls = []
    chunks = []
    for doc, rest in bodies:
        m = re.search(r"^__all__ = \[(.*?)\]\n?", rest, re.S | re.M)
        if m: alls += re.findall(r'"([^"]+)"', m[1]); rest = rest.replace(m[0], "")
        chunks.append(rest.strip("\n"))
    if alls: text += "\n__all__ = [" + ", ".join(f'"{a}"' for a in sorted(set(alls), key=lambda s: s)) + "]\n"
    docs = [d for d, _ in bodies[1:] if d]
    text += "\n" + "\n\n\n".join(chunks) + "\n"
    # imports of itself inside functions, and its own name as an alias
    text = re.sub(r"^[ \t]+from " + re.escape(me) + r" import [\w, ]+.*\n", "", text, flags=re.M)
    text = text.replace(me + ".", "") if f"import {me}" not in text else text
    target.write_text(text, encoding="utf-8")
    for o in olds:
        if o != new: subprocess.run(["git", "-C", str(repo), "rm", "-q", "-f", o], check=True)
    subprocess.run(["git", "-C", str(repo), "add", new], check=True)
    for d in docs: print(f"  DOC {new}: {d.strip().splitlines()[0]}")

def remove(text, name):
    lines = text.split("\n")
    for n in ast.parse(text).body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name or isinstance(n, (ast.Assign, ast.AnnAssign)) and any(isinstance(q, ast.Name) and q.id == name for t in (n.targets if isinstance(n, ast.Assign) else [n.target]) for q in ast.walk(t)):
            end = n.end_lineno
            body = ast.parse(text).body; i = [b.lineno for b in body].index(n.lineno)
            if i + 1 < len(body) and isinstance(body[i+1], ast.Expr) and isinstance(n, (ast.Assign, ast.AnnAssign)): end = body[i+1].end_lineno
            return "\n".join(lines[:n.lineno-1] + lines[end:])
    return text

# ---- prose, configuration, paths
def textual(repo, paths, mapping):
    out = subprocess.run(["git", "-C", str(repo), "ls-files"], capture_output=True, text=True).stdout.split()
    for f in out:
        p = repo/f
        if not p.is_file() or p.suffix not in (".md", ".toml", ".yml", ".yaml", ".py", ".ipynb", "", ".js", ".css", ".html") or f in ("CHANGELOG.md", "docs/log.md"): continue
        try: text = p.read_text(encoding="utf-8")
        except UnicodeDecodeError: continue
        new = text
        for o in sorted(paths, key=len, reverse=True):
            if o in new: new = re.sub(r"(?<![\w/])" + re.escape(o) + r"(?!\w)", "\0" + paths[o], new)
        new = new.replace("\0", "")
        if p.suffix != ".py": new = dotted_strings(new, mapping)
        if new != text: p.write_text(new, encoding="utf-8")
main()
