// The map of the titles: draws points, names the one that is pointed at, finds names, hides genres.
(() => {
  "use strict";
  const source = document.getElementById("titles");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const canvas = document.getElementById("map");
  const tip = document.getElementById("tip");
  const find = document.getElementById("find");
  const light = ["#1f77b4", "#d1603d", "#2a9d6f", "#9c5fb5", "#c79a1b", "#c2457f", "#4a7a1e", "#1b9aaa", "#9a9a94"];
  const dark = ["#6db3e8", "#f0936f", "#6fcfa2", "#c79be0", "#e8c55a", "#f08ab5", "#a5cc6b", "#62ccd8", "#6d737a"];
  const night = matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Set();
  const count = data.name.length;
  const names = data.name.map((name) => name.toLowerCase());
  const other = data.legend.length - 1;
  let wanted = "";
  let near = -1;
  let places = [];

  const colour = (genre) => (night.matches ? dark : light)[genre === other ? 8 : genre];
  const matches = (i) => wanted !== "" && names[i].includes(wanted);

  function draw() {
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const margin = 16;
    places = data.x.map((x, i) => [
      margin + ((x + 1) / 2) * (width - 2 * margin),
      margin + ((1 - data.y[i]) / 2) * (height - 2 * margin),
    ]);
    const radius = count > 1500 ? 2.4 : count > 400 ? 3.2 : 4.5;
    for (let i = count - 1; i >= 0; i--) {
      if (hidden.has(data.genre[i])) continue;
      pen.globalAlpha = wanted === "" ? 0.72 : 0.12;
      dot(pen, i, radius);
    }
    pen.globalAlpha = 1;
    for (let i = 0; i < count; i++) if (matches(i)) dot(pen, i, radius + 2);
    write(pen, width);
    if (near >= 0) {
      dot(pen, near, radius + 2.5);
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.lineWidth = 1.5;
      pen.stroke();
    }
  }

  function dot(pen, i, radius) {
    pen.fillStyle = colour(data.genre[i]);
    pen.beginPath();
    pen.arc(places[i][0], places[i][1], radius, 0, 2 * Math.PI);
    pen.fill();
  }

  // Names of genres at their middles, then of the best-known titles as far as there is room for them.
  function write(pen, width) {
    if (wanted !== "") return;
    const taken = [];
    for (let genre = 0; genre < other; genre++) {
      if (hidden.has(genre)) continue;
      const mine = places.filter((_, i) => data.genre[i] === genre);
      if (mine.length < 3) continue;
      const [x, y] = [0, 1].map((axis) => mine.map((place) => place[axis]).sort((a, b) => a - b)[mine.length >> 1]);
      label(pen, data.legend[genre], x, y, "650 15px ", colour(genre), taken, width);
    }
    const most = Math.round(width / 45);
    const ink = getComputedStyle(document.body).color;
    let written = 0;
    for (let i = 0; i < Math.min(count, 400) && written < most; i++) {
      if (hidden.has(data.genre[i])) continue;
      const name = data.name[i].replace(/ \(\d{4}\)$/, "");
      if (name.length < 28 && label(pen, name, places[i][0], places[i][1] - 9, "12px ", ink, taken, width)) written++;
    }
  }

  function label(pen, text, x, y, weight, ink, taken, width) {
    pen.font = weight + getComputedStyle(document.body).fontFamily;
    const half = pen.measureText(text).width / 2;
    const place = Math.max(half + 6, Math.min(width - half - 6, x));
    const box = [place - half - 6, y - 10, place + half + 6, y + 10];
    if (box[1] < 2 || taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) return false;
    taken.push(box);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = getComputedStyle(canvas.parentElement).backgroundColor;
    pen.strokeText(text, place, y);
    pen.fillStyle = ink;
    pen.fillText(text, place, y);
    return true;
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = 18 * 18;
    near = -1;
    for (let i = 0; i < count; i++) {
      if (hidden.has(data.genre[i]) || (wanted !== "" && !matches(i))) continue;
      const far = (places[i][0] - x) ** 2 + (places[i][1] - y) ** 2;
      if (far < best) [best, near] = [far, i];
    }
    say();
    draw();
  }

  function say() {
    tip.style.display = near < 0 ? "none" : "block";
    if (near < 0) return;
    tip.textContent = data.name[near] + " · " + data.legend[data.genre[near]];
    const [x, y] = places[near];
    tip.style.left = Math.max(4, Math.min(x + 12, canvas.clientWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, y < 60 ? y + 14 : y - tip.offsetHeight - 12) + "px";
  }

  data.legend.forEach((genre, at) => {
    if (!data.genre.includes(at)) return;
    const button = document.createElement("button");
    const mark = document.createElement("i");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    mark.dataset.genre = at;
    button.append(mark, genre);
    button.addEventListener("click", () => {
      hidden.has(at) ? hidden.delete(at) : hidden.add(at);
      button.setAttribute("aria-pressed", String(!hidden.has(at)));
      draw();
    });
    document.getElementById("legend").append(button);
  });

  function paint() {
    document.querySelectorAll("#legend i").forEach((mark) => (mark.style.background = colour(Number(mark.dataset.genre))));
    draw();
  }

  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", () => { near = -1; say(); draw(); });
  find.addEventListener("input", () => {
    wanted = find.value.trim().toLowerCase();
    near = wanted === "" ? -1 : names.findIndex((_, i) => matches(i) && !hidden.has(data.genre[i]));
    draw();
    say();
  });
  night.addEventListener("change", paint);
  addEventListener("resize", draw);
  paint();
})();
