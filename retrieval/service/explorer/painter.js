// Painting the map: points by genre, lines from the chosen title to its neighbours, and as many names as there is room for.
const LIGHT = ["#1f77b4", "#d1603d", "#2a9d6f", "#9c5fb5", "#c79a1b", "#c2457f", "#4a7a1e", "#1b9aaa", "#9a9a94"];
const DARK = ["#6db3e8", "#f0936f", "#6fcfa2", "#c79be0", "#e8c55a", "#f08ab5", "#a5cc6b", "#62ccd8", "#6d737a"];

export function painter(canvas, state, seen) {
  const { data } = state;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const other = data.legend.length - 1;
  const colour = (genre) => (dark.matches ? DARK : LIGHT)[genre === other ? 8 : genre % 8];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const place = (i) => seen.at(data.x[i], data.y[i]);

  function paint() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const size = (data.x.length > 1500 ? 2.4 : data.x.length > 400 ? 3.2 : 4.5) * Math.min(2, seen.scale() ** 0.35);
    const related = new Set([state.chosen, ...state.now, ...state.before]);
    pen.globalAlpha = state.chosen >= 0 ? 0.45 : 0.72;
    for (let i = data.x.length - 1; i >= 0; i--) if (!state.hidden.has(data.genre[i]) && !related.has(i)) dot(pen, i, size);
    pen.globalAlpha = 1;
    lines(pen, state.before.filter((i) => !state.now.includes(i)), style("--soft"), [3, 4]);
    lines(pen, state.now, style("--accent"), []);
    for (const i of related) if (i >= 0) dot(pen, i, size + 1.5);
    ring(pen, state.chosen, size + 3);
    write(pen, width, height);
    ring(pen, state.near, size + 2.5);
  }

  function dot(pen, i, radius) {
    const [x, y] = place(i);
    pen.fillStyle = colour(data.genre[i]);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }

  function ring(pen, i, radius) {
    if (i < 0) return;
    dot(pen, i, radius);
    pen.strokeStyle = style("--ink");
    pen.lineWidth = 1.6;
    pen.stroke();
  }

  function lines(pen, ends, ink, dashes) {
    if (state.chosen < 0) return;
    pen.strokeStyle = ink;
    pen.lineWidth = 1.2;
    pen.setLineDash(dashes);
    for (const i of ends) {
      pen.beginPath();
      pen.moveTo(...place(state.chosen));
      pen.lineTo(...place(i));
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  // The chosen title and its neighbours first, then genres at their middles, then titles from the best known on.
  function write(pen, width, height) {
    const taken = [];
    const ink = style("--ink");
    const name = (i, weight) => {
      const [x, y] = place(i);
      if (x < 0 || y < 0 || x > width || y > height) return false;
      return label(pen, data.name[i].replace(/ \(\d{4}\)$/, ""), x, y - 11, weight, ink, taken, width);
    };
    if (state.chosen >= 0) name(state.chosen, "650 13px ");
    for (const i of state.now) name(i, "12px ");
    if (seen.scale() < 3 && state.chosen < 0) genres(pen, taken, width);
    const most = Math.round(width / 45);
    for (let i = 0, written = 0; i < data.x.length && written < most; i++) {
      if (state.hidden.has(data.genre[i]) || data.name[i].length > 28) continue;
      if (name(i, "12px ")) written++;
    }
  }

  function genres(pen, taken, width) {
    for (let genre = 0; genre < other; genre++) {
      if (state.hidden.has(genre)) continue;
      const mine = data.genre.flatMap((one, i) => (one === genre ? [place(i)] : []));
      if (mine.length < 3) continue;
      const [x, y] = [0, 1].map((axis) => mine.map((spot) => spot[axis]).sort((a, b) => a - b)[mine.length >> 1]);
      label(pen, data.legend[genre], x, y, "650 15px ", colour(genre), taken, width);
    }
  }

  function label(pen, text, x, y, weight, ink, taken, width) {
    pen.font = weight + getComputedStyle(document.body).fontFamily;
    const half = pen.measureText(text).width / 2;
    const middle = Math.max(half + 6, Math.min(width - half - 6, x));
    const box = [middle - half - 6, y - 9, middle + half + 6, y + 9];
    if (box[1] < 2 || taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) return false;
    taken.push(box);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = style("--ground");
    pen.strokeText(text, middle, y);
    pen.fillStyle = ink;
    pen.fillText(text, middle, y);
    return true;
  }

  paint.colour = colour;
  return paint;
}
