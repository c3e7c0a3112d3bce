"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const data = JSON.parse(element("data").textContent);
  const canvas = element("strip"), slider = element("view");
  const cells = data.first.length;
  const views = data.views.map((view) => Uint8Array.from(atob(view.p), (letter) => letter.charCodeAt(0)));
  const reads = new Map(); // cell -> the steps, from 0, that read a chunk of it
  data.opened.forEach((open, step) => reads.set(open.cell, [...(reads.get(open.cell) || []), step]));
  const sources = new Set(data.sources);
  const HELP = element("strip-help").textContent;
  const state = { view: 0, cell: -1, focused: false };
  let boxes = []; // [x, y] of each cell, in CSS pixels
  let labels = []; // [text, x, y, width] of each document that has room for its name
  let size = 16, colours = {};

  // ---- where cells stand: documents in order, each a block, as many to a line as fit ----

  function groups() {
    if (data.share > 1) return [[0, cells]]; // a cell may hold chunks of two documents
    const found = [];
    for (let start = 0; start < cells; ) {
      let end = start + 1;
      while (end < cells && data.first[end] === data.first[start]) end++;
      found.push([start, end]);
      start = end;
    }
    return found;
  }

  // What all ids begin with, up to a slash, says nothing beside a cell.
  const folder = data.documents.reduce((shared, name) => {
    while (!name.startsWith(shared)) shared = shared.slice(0, shared.lastIndexOf("/", shared.length - 2) + 1);
    return shared;
  }, data.documents[0].slice(0, data.documents[0].lastIndexOf("/") + 1)).length;

  function layout(width) {
    const blocks = groups();
    const named = blocks.length <= 150 && cells <= 1000;
    size = cells <= 120 ? 22 : cells <= 600 ? 16 : cells <= 2500 ? 9 : 5;
    const gap = size > 5 ? 2 : 1, pitch = size + gap, between = named ? 14 : blocks.length > cells / 2 ? gap : gap + 3, top = named ? 17 : 0;
    const room = Math.max(1, Math.floor((width - 6) / pitch));
    boxes = []; labels = [];
    let x = 3, y = 3, tallest = 0;
    const newLine = () => { x = 3; y += tallest; tallest = 0; };
    for (const [start, end] of blocks) {
      const count = end - start, columns = Math.min(count, room);
      const wide = Math.min(width - 6, named ? Math.max(104, columns * pitch) : pitch);
      if (x > 3 && x + wide > width - 3) newLine();
      if (named) {
        labels.push([data.documents[data.first[start]].slice(folder), x, y, wide]);
        for (let i = 0; i < count; i++) boxes.push([x + (i % columns) * pitch, y + top + Math.floor(i / columns) * pitch]);
        tallest = Math.max(tallest, top + Math.ceil(count / columns) * pitch + 8);
        x += wide + between;
      } else {
        tallest = pitch + (size > 5 ? 1 : 0);
        for (let i = 0; i < count; i++) {
          if (x + size > width - 3) { newLine(); tallest = pitch + (size > 5 ? 1 : 0); }
          boxes.push([x, y]);
          x += pitch;
        }
        x += between - gap;
      }
    }
    return y + tallest + 3;
  }

  // ---- drawing ----

  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const stops = [0, 1, 2, 3, 4].map((n) => rgb(colour("--s" + n)));
    const ramp = Array.from({ length: 256 }, (_, value) => {
      const at = (value / 255) * 4, low = Math.min(3, Math.floor(at)), part = at - low;
      return "rgb(" + stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * part)).join() + ")";
    });
    const bright = (at) => stops[at].reduce((sum, c) => sum + c, 0) > 382;
    colours = { ramp, ink: colour("--ink"), card: colour("--card"), opened: colour("--opened"), quiet: colour("--quiet"),
      on: (value) => (bright(Math.round((value / 255) * 4)) ? "#111" : "#fff") };
  }

  function resize() {
    const width = canvas.clientWidth, height = layout(width), scale = window.devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    draw();
  }

  function draw() {
    const pen = canvas.getContext("2d"), scale = canvas.width / Math.max(1, canvas.clientWidth);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    pen.textBaseline = "top";
    pen.fillStyle = colours.quiet;
    for (const [text, x, y, wide] of labels) pen.fillText(shortened(pen, text, wide), x, y + 1);
    const p = views[state.view];
    for (let cell = 0; cell < cells; cell++) {
      pen.fillStyle = colours.ramp[p[cell]];
      pen.fillRect(boxes[cell][0], boxes[cell][1], size, size);
    }
    for (const [cell, steps] of reads) mark(pen, cell, steps.filter(shown), p[cell]);
    if (state.cell >= 0) {
      const [x, y] = boxes[state.cell];
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 2;
      pen.strokeRect(x - 2, y - 2, size + 4, size + 4);
    }
  }

  // In the view of a moment: what had been read by then, and what it opened.
  const shown = (step) => state.view === 0 || step < data.views[state.view].done || data.opened[step].view === state.view;

  function mark(pen, cell, steps, value) {
    if (!steps.length) return;
    const [x, y] = boxes[cell], out = size > 5 ? 0.5 : 2.5;
    pen.strokeStyle = colours.opened;
    pen.lineWidth = size > 5 ? 3 : 2;
    pen.strokeRect(x - out, y - out, size + 2 * out, size + 2 * out);
    if (size > 9) {
      pen.fillStyle = colours.on(value);
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.font = "bold 11px system-ui, 'DejaVu Sans', sans-serif";
      pen.fillText(steps.map((step) => step + 1).join(), x + size / 2, y + size / 2 + 0.5);
      pen.textAlign = "start";
    }
    if (sources.has(cell)) {
      pen.beginPath();
      pen.arc(x + size + out - 0.5, y - out + 0.5, size > 5 ? 4 : 3, 0, 7);
      pen.fillStyle = colours.ink;
      pen.strokeStyle = colours.card;
      pen.lineWidth = 1.5;
      pen.fill();
      pen.stroke();
    }
  }

  function shortened(pen, text, wide) {
    if (pen.measureText(text).width <= wide) return text;
    let [low, high] = [0, text.length]; // the end of an id tells more than its start
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pen.measureText("…" + text.slice(middle)).width <= wide) high = middle;
      else low = middle + 1;
    }
    return "…" + text.slice(low);
  }

  // ---- what is shown and said ----

  function show(view) {
    state.view = Math.max(0, Math.min(views.length - 1, view));
    slider.value = state.view;
    const label = data.views[state.view].label;
    slider.setAttribute("aria-valuetext", label);
    element("view-label").textContent = (state.view ? state.view + " of " + (views.length - 1) + ": " : "") + label;
    point(state.cell);
  }

  function point(cell) {
    state.cell = cell;
    element("readout").textContent = cell < 0 ? HELP : describe(cell);
    draw();
  }

  function describe(cell) {
    const [from, to] = [data.first[cell], data.last ? data.last[cell] : data.first[cell]];
    const [start, end] = [data.start[cell], data.end[cell]].map((character) => character.toLocaleString("en"));
    const place = from === to ? `${data.documents[from]} [${start}–${end}]`
      : `${data.documents[from]} [${start}] – ${data.documents[to]} [${end}]`;
    const steps = (reads.get(cell) || []).filter(shown);
    return "\u2068" + place + "\u2069 · P(open) " + (views[state.view][cell] / 255).toFixed(2)
      + (steps.length ? " · read in step " + steps.map((step) => step + 1).join(", ") : "")
      + (sources.has(cell) && steps.length ? " · source" : "");
  }

  function cellAt(event) {
    const frame = canvas.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
    const reach = size + 2;
    return boxes.findIndex(([left, top]) => x >= left - 1 && x < left - 1 + reach && y >= top - 1 && y < top - 1 + reach);
  }

  function vertical(down) {
    const [x, y] = boxes[state.cell];
    let best = state.cell, nearest = Infinity;
    boxes.forEach(([left, top], cell) => {
      const rows = down ? top - y : y - top;
      const far = rows * 1000 + Math.abs(left - x);
      if (rows > 0 && far < nearest) [best, nearest] = [cell, far];
    });
    return best;
  }

  function follow(cell) {
    const steps = reads.get(cell);
    if (steps) location.hash = "#step-" + (steps[0] + 1);
  }

  // ---- events ----

  const marks = [...reads.keys()].sort((one, other) => one - other);
  const keys = {
    ArrowRight: () => Math.min(cells - 1, state.cell + 1),
    ArrowLeft: () => Math.max(0, state.cell - 1),
    ArrowDown: () => vertical(true),
    ArrowUp: () => vertical(false),
    Home: () => 0,
    End: () => cells - 1,
    PageDown: () => marks.find((cell) => cell > state.cell) ?? state.cell,
    PageUp: () => marks.findLast((cell) => cell < state.cell) ?? state.cell,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter") return follow(state.cell);
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return undefined;
    event.preventDefault();
    return point(state.cell < 0 ? 0 : keys[event.key]());
  });
  canvas.addEventListener("focus", () => state.cell < 0 && canvas.matches(":focus-visible") && point(marks[0] ?? 0));
  canvas.addEventListener("pointermove", (event) => { const cell = cellAt(event); if (cell !== state.cell) point(cell); });
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("click", (event) => { const cell = cellAt(event); point(cell); follow(cell); });
  slider.addEventListener("input", () => show(Number(slider.value)));
  element("earlier").addEventListener("click", () => show(state.view - 1));
  element("later").addEventListener("click", () => show(state.view + 1));
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => { show(Number(button.dataset.view)); canvas.scrollIntoView({ block: "center" }); });
  }

  // A passage may be in a chunk whose text is folded away.
  function unfold() {
    const target = location.hash.length > 1 && element(location.hash.slice(1));
    if (!target) return;
    const folded = target.closest("details");
    if (folded) folded.open = true;
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
  }
  window.addEventListener("hashchange", unfold);
  for (const link of document.querySelectorAll("a[href^='#']")) {
    link.addEventListener("click", () => link.hash === location.hash && unfold()); // the same one again
  }

  const repaint = () => { readColours(); resize(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  // Paper is light, and folds nothing away but the chunks that gave no note.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open], .read)")];
    folded.forEach((details) => { details.open = true; });
    document.documentElement.dataset.printing = "true";
    repaint();
  });
  window.addEventListener("afterprint", () => {
    folded.forEach((details) => { details.open = false; });
    delete document.documentElement.dataset.printing;
    repaint();
  });
  new ResizeObserver(() => { if (boxes.length && Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)) !== canvas.width) resize(); }).observe(canvas);

  document.querySelector(".controls").hidden = false;
  for (const quoted of document.querySelectorAll(".text")) {
    const first = quoted.querySelector("mark.source") || quoted.querySelector("mark");
    if (first) quoted.scrollTop = first.offsetTop - 60;
  }
  repaint();
  show(0);
  unfold();
  document.documentElement.dataset.ready = "true"; // for the test that no line above failed
})();
