/* One patient's images: all panes show the same slice, in the same kind of window, and the value at the same place. */
(function () {
  "use strict";
  const { planesOf, unpack, amount, inWords, levelInWords } = ctpVolume;
  const data = JSON.parse(document.getElementById("case-data").textContent);
  const planes = planesOf(data.size, data.spacing, data.first);
  const viewer = document.getElementById("viewer");
  const all = (selector) => Array.from(viewer.querySelectorAll(selector));
  const byId = (id) => document.getElementById(id);
  const contours = all(".contour");
  const presets = all("[data-preset]");
  const kinds = all("[data-kind]");
  const turns = all("[data-plane]");
  const [slider, where, keys, channel, low, high, ends] =
    ["slider", "where", "keys", "channel", "low", "high", "ends"].map(byId);
  const STEP = 1.25;
  const NOTCH = 50; // px of a wheel for a slice: a mouse gives more at once, a touchpad less

  /* What holds from case to case travels in the address: a page from disk has no store that every browser gives it. */
  const state = new URLSearchParams(location.hash.slice(1));
  let preset = Math.min(Math.max(Number(state.get("window")) || 0, 0), presets.length - 1);
  let size = Math.min(Math.max(Number(state.get("size")) || 0, -4), 8);
  let plane = data.planes.includes(state.get("plane")) ? state.get("plane") : data.planes[0];
  const off = new Set((state.get("off") || "").split(",").filter(Boolean)); // also kinds that this case lacks
  const free = new Map(); // title of a channel → [low, high]
  state.getAll("free").forEach((text) => {
    const [title, ...window] = text.split("|");
    if (window.length === 2 && Number(window[0]) < Number(window[1])) free.set(title, window.map(Number));
  });
  const index = Object.assign({}, data.start);
  let pointed = null; // px of the plane
  const paneWidth = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--pane"));

  const panes = all(".slice").map((slice, i) => ({
    ...data.panes[i],
    slice,
    canvas: slice.querySelector("canvas"),
    svg: slice.querySelector("svg"),
    value: slice.parentElement.querySelector(".value"),
  }));

  function windowOf(tone) {
    return free.get(tone.title) || tone.windows[data.presets[preset]];
  }

  /* Level → red, green, blue; 0 is outside the brain. */
  function colour(pane, level) {
    if (level === 0) return [0, 0, 0];
    if (pane.signed) {
      const share = Math.abs(level - 128) / 127;
      const [zero, end] = [data.colours[1], data.colours[level < 128 ? 0 : 2]];
      return zero.map((part, i) => Math.round(part + share * (end[i] - part)));
    }
    const [from, to] = pane.tone === null ? [pane.low, pane.high] : windowOf(data.tones[pane.tone]);
    const grey = Math.round(255 * Math.min(Math.max((amount(pane, level) - from) / (to - from), 0), 1));
    return [grey, grey, grey];
  }

  function draw(pane) {
    const { width, height, at } = planes[plane];
    pane.canvas.width = width;
    pane.canvas.height = height;
    const context = pane.canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let y = 0, k = 0; y < height; y++) {
      for (let x = 0; x < width; x++) pixels[k++] = pane.colours[pane.levels[at(index[plane], x, y)]];
    }
    context.putImageData(picture, 0, 0);
  }

  function show() {
    const i = index[plane];
    slider.value = i;
    panes.forEach(draw);
    contours.forEach((path) => path.setAttribute("d", data.masks[path.dataset.mask][plane][i]));
    const number = i + 1 + " of " + planes[plane].count;
    where.textContent = number;
    const height = document.createElement("span");
    height.className = "mm";
    height.textContent = " · " + planes[plane].told(i);
    where.append(height);
    slider.setAttribute("aria-valuetext", "slice " + number);
    tell();
  }

  function valueAt(pane) {
    return levelInWords(pane, pane.levels[planes[plane].at(index[plane], ...pointed)]);
  }

  function tell() {
    const cross = pointed && [2 * pointed[0] + 1, 2 * pointed[1] + 1];
    panes.forEach((pane) => {
      pane.value.textContent = pointed ? valueAt(pane) : "";
      const lines = pointed ? `M${cross[0] - 6} ${cross[1]}h4m4 0h4M${cross[0]} ${cross[1] - 6}v4m0 4v4` : "";
      pane.svg.querySelector(".cross").setAttribute("d", lines);
    });
  }

  /* Everything that does not change from slice to slice. */
  function dress() {
    const { mm, width, height, count } = planes[plane];
    slider.max = count - 1;
    viewer.classList.toggle("standing", plane !== "axial");
    panes.forEach((pane) => {
      pane.colours = new Uint32Array(Uint8ClampedArray.from(
        Array.from({ length: 256 }, (_, level) => [...colour(pane, level), 255]).flat(),
      ).buffer);
      pane.svg.setAttribute("viewBox", "0 0 " + mm.join(" "));
      pane.svg.querySelector("g").setAttribute("transform", `scale(${mm[0] / width / 2} ${mm[1] / height / 2})`);
      pane.slice.querySelector(".side").textContent = plane === "sagittal" ? "A" : "R";
    });
    turns.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.plane === plane)));
    presets.forEach((button, i) => button.setAttribute("aria-pressed", String(i === preset && !free.size)));
    kinds.forEach((button) => {
      viewer.classList.toggle("no-" + button.dataset.kind, off.has(button.dataset.kind));
      button.setAttribute("aria-pressed", String(!off.has(button.dataset.kind)));
    });
    document.documentElement.style.setProperty("--pane", paneWidth * Math.pow(STEP, size) + "px");
    dressFree();
    show();
    remember();
  }

  function dressFree() {
    const tone = data.tones[Number(channel.value)];
    if (!tone) return;
    [low, high].forEach((input, i) => {
      Object.assign(input, { min: tone.low, max: tone.high, step: (tone.high - tone.low) / 256 });
      input.value = windowOf(tone)[i];
    });
    ends.textContent = windowOf(tone).map((end) => inWords(end, tone.decimals)).join(" to ") + " " + tone.unit;
  }

  function remember() {
    const hash = new URLSearchParams();
    if (preset) hash.set("window", preset);
    if (off.size) hash.set("off", Array.from(off).join(","));
    if (size) hash.set("size", size);
    if (plane !== data.planes[0]) hash.set("plane", plane);
    free.forEach((window, title) => hash.append("free", [title, ...window].join("|")));
    if (viewer.contains(document.activeElement)) hash.set("focus", 1);
    ["before", "after"].forEach((id) => {
      if (byId(id)) byId(id).hash = hash.toString();
    });
  }

  function go(change) {
    index[plane] = Math.min(Math.max(index[plane] + change, 0), planes[plane].count - 1);
    show();
  }

  function choose(number) {
    preset = number;
    free.clear();
    dress();
  }

  function turn(name) {
    plane = name;
    pointed = null;
    dress();
  }

  function resize(change) {
    size = Math.min(Math.max(size + change, -4), 8);
    dress();
  }

  function widen(moved) {
    const tone = data.tones[Number(channel.value)];
    const least = (tone.high - tone.low) / 256;
    let [from, to] = [Number(low.value), Number(high.value)];
    if (to - from < least) {
      if (moved === low) from = Math.min(from, tone.high - least);
      [from, to] = moved === low ? [from, from + least] : [Math.max(to, tone.low + least) - least, Math.max(to, tone.low + least)];
    }
    free.set(tone.title, [from, to]);
    dress();
  }

  function follow(id) {
    if (byId(id)) byId(id).click();
  }

  function listen() {
    slider.addEventListener("input", () => go(Number(slider.value) - index[plane]));
    presets.forEach((button, i) => button.addEventListener("click", () => choose(i)));
    turns.forEach((button) => button.addEventListener("click", () => turn(button.dataset.plane)));
    kinds.forEach((button) =>
      button.addEventListener("click", () => {
        if (!off.delete(button.dataset.kind)) off.add(button.dataset.kind);
        dress();
      }),
    );
    all("[data-size]").forEach((button) => button.addEventListener("click", () => resize(Number(button.dataset.size))));
    byId("help").addEventListener("click", () => keys.showModal());
    channel.addEventListener("change", dressFree);
    [low, high].forEach((input) => input.addEventListener("input", () => widen(input)));
    viewer.addEventListener("focusin", remember);
    viewer.addEventListener("keydown", press);
    panes.forEach(({ slice }) => {
      slice.addEventListener("pointermove", point);
      slice.addEventListener("pointerdown", point);
      slice.addEventListener("pointerleave", (event) => {
        if (event.pointerType !== "mouse") return; // a finger that is lifted still points
        pointed = null;
        tell();
      });
      slice.addEventListener("wheel", roll, { passive: false });
    });
  }

  function point(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const { width, height } = planes[plane];
    const place = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    pointed = [
      place((event.clientX - box.left) / box.width, width),
      place((event.clientY - box.top) / box.height, height),
    ];
    tell();
  }

  let rolled = 0;
  function roll(event) {
    if (event.ctrlKey) return; // the browser's zoom
    event.preventDefault();
    rolled += event.deltaMode === 0 ? event.deltaY : event.deltaY * NOTCH;
    if (Math.abs(rolled) < NOTCH) return;
    go(-Math.sign(rolled));
    rolled = 0;
  }

  const moves = {
    ArrowUp: () => go(1),
    ArrowRight: () => go(1),
    ArrowDown: () => go(-1),
    ArrowLeft: () => go(-1),
    PageUp: () => go(5),
    PageDown: () => go(-5),
    Home: () => go(-Infinity),
    End: () => go(Infinity),
  };
  const actions = {
    c: () => {
      const hide = kinds.some((button) => !off.has(button.dataset.kind));
      data.kinds.forEach((kind) => (hide ? off.add(kind) : off.delete(kind)));
      dress();
    },
    v: () => turn(data.planes[(data.planes.indexOf(plane) + 1) % data.planes.length]),
    n: () => follow("after"),
    p: () => follow("before"),
    "+": () => resize(1),
    "-": () => resize(-1),
    "?": () => keys.showModal(),
  };
  presets.forEach((_, i) => (actions[String(i + 1)] = () => choose(i)));

  function press(event) {
    // The free window's own controls keep their arrows.
    const own = [channel, low, high].includes(event.target);
    const action = own ? null : moves[event.key] || actions[event.key];
    if (!action || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault(); // also the slider's own answer to arrows, or they would count twice
    action();
  }

  Promise.all(panes.map(async (pane) => (pane.levels = await unpack(ctpImages[pane.image])))).then(
    () => {
      listen();
      dress();
      if (state.get("focus")) viewer.focus({ preventScroll: true });
      viewer.dataset.ready = "yes";
    },
    () => (byId("fault").hidden = false),
  );
})();
