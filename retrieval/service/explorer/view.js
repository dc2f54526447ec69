// Where the map is looked at from: a centre and a scale, moved by dragging, the wheel, two fingers, and buttons.
const LARGEST = 40;

export function view(canvas, changed) {
  const margin = 18;
  const now = { x: 0, y: 0, scale: 1 };
  const fingers = new Map();
  let moved = 0;

  const half = () => [(canvas.clientWidth - 2 * margin) / 2, (canvas.clientHeight - 2 * margin) / 2];

  function at(x, y) {
    const [w, h] = half();
    return [canvas.clientWidth / 2 + (x - now.x) * w * now.scale, canvas.clientHeight / 2 - (y - now.y) * h * now.scale];
  }

  function keep() {
    const room = 1 - 1 / now.scale;
    now.x = Math.max(-room, Math.min(room, now.x));
    now.y = Math.max(-room, Math.min(room, now.y));
    // At full size a finger scrolls the page; closer up it moves the map.
    canvas.style.touchAction = now.scale > 1 ? "none" : "pan-y";
    changed();
  }

  // Zooms so that what lies under a place of the canvas stays there.
  function zoom(by, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) {
    const [w, h] = half();
    const old = now.scale;
    now.scale = Math.max(1, Math.min(LARGEST, old * by));
    const shift = 1 / old - 1 / now.scale;
    now.x += ((px - canvas.clientWidth / 2) / w) * shift;
    now.y -= ((py - canvas.clientHeight / 2) / h) * shift;
    keep();
  }

  function pan(dx, dy) {
    const [w, h] = half();
    now.x -= dx / (w * now.scale);
    now.y += dy / (h * now.scale);
    keep();
  }

  // Brings a point into the picture if it is outside.
  function show(x, y) {
    const [px, py] = at(x, y);
    if (px > margin && py > margin && px < canvas.clientWidth - margin && py < canvas.clientHeight - margin) return;
    [now.x, now.y] = [x, y];
    keep();
  }

  const middle = () => {
    const all = [...fingers.values()];
    const [x, y] = [0, 1].map((axis) => all.reduce((sum, one) => sum + one[axis], 0) / all.length);
    return [x, y, all.length > 1 ? Math.hypot(all[0][0] - all[1][0], all[0][1] - all[1][1]) : 0];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const [x, y, apart] = middle();
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    const [newX, newY, newApart] = middle();
    moved += Math.hypot(newX - x, newY - y) + Math.abs(newApart - apart);
    if (moved < 4) return;
    canvas.setPointerCapture?.(event.pointerId);
    if (apart && newApart) zoom(newApart / apart, newX, newY);
    pan(newX - x, newY - y);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
  }, { passive: false });
  addEventListener("resize", keep);

  return {
    at, zoom, show,
    scale: () => now.scale,
    dragging: () => fingers.size > 0,
    dragged: () => moved >= 4,
    whole: () => (Object.assign(now, { x: 0, y: 0, scale: 1 }), keep()),
  };
}
