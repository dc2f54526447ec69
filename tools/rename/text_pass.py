"""Replace renamed identifiers in prose: backticked names in docstrings, comments and Markdown; settings keys everywhere."""
import re, subprocess, sys
from pathlib import Path
repo = Path(sys.argv[1]); H = Path(__file__).parent
byname = {}
for ln in (H/"symbols.spec").read_text().splitlines():
    ln = ln.split("#")[0].strip()
    if not ln: continue
    a, new = [x.strip() for x in ln.split("->")]; qual = a.split(":")[1]; parts = qual.split(".")
    byname.setdefault(parts[-1], set()).add(new)
    if len(parts) > 1: byname.setdefault(qual, set()).add(None)
single = {o: next(iter(n)) for o, n in byname.items() if len(n) == 1 and None not in n}
COMMON = {"name","text","place","live","account","moment","reason","trials","slices","line","unit","scale","write","read","load","save","best","search","put","drop","rank","choose","measure","count","index","counts","rows","section","history","matches","comparison","current","previous","windows","epoch","exposure","engagement","weighted","part","joined","mean","merged","mixed","alone","figures","difference","judge","suite","probe","cluster","look","between","note","finding","machine","table","letter","many","groups","grouped","summary","finish","resume","without","changes","duplicates","held_out","hashes","positions","established","threshold","aligned","each","gather","signals","know","known","plain","reach","effort","depth","average","begin","check","deal","length","blocks","block","heads","clip","negatives","nested","teachers","auxiliary","change","report","finished","entries","once","files","point","move","hold","record","ask","cut","before","grown","account","gain","gains","newest","learn","prepare","adapted","fits","stamped","damaged","movies","ratings","tags","users","broken","holder","sweep","tidy","machine","around","verified","first","SAMPLE","PATH","FOLDER","LIMIT","BLOCK"}
settings = [ln.split() for ln in (H/"settings.txt").read_text().splitlines() if ln.strip() and not ln.startswith("#")]
files = subprocess.run(["git", "-C", str(repo), "ls-files"], capture_output=True, text=True).stdout.split()
ambiguous = {}
for f in files:
    p = repo/f
    if f in ("CHANGELOG.md", "docs/log.md") or p.suffix not in (".py", ".md", ".toml", ".yml", ".yaml", ".ipynb", ".js", ".html", ".css", "") or not p.is_file(): continue
    try: text = p.read_text(encoding="utf-8")
    except UnicodeDecodeError: continue
    def back(m):
        w = m[1]
        if w in single and w not in COMMON: return f"`{single[w]}{m[2]}`"
        if w in byname and w not in COMMON: ambiguous.setdefault(w, []).append(f)
        return m[0]
    new = re.sub(r"`([A-Za-z_][A-Za-z_0-9]*)((?:\(\))?)`", back, text)
    for old, key in settings: new = re.sub(old, key, new)
    if new != text: p.write_text(new, encoding="utf-8")
for w, fs in sorted(ambiguous.items()): print("AMBIGUOUS", w, sorted(set(fs))[:4])
