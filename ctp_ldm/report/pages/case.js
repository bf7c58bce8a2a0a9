/* One patient's pictures: all panes show the same slice, in the same kind of window. */
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("case-data").textContent);
  const viewer = document.getElementById("viewer");
  const sprites = Array.from(viewer.querySelectorAll(".sprite"));
  const contours = Array.from(viewer.querySelectorAll(".contour"));
  const presets = Array.from(viewer.querySelectorAll("[data-preset]"));
  const kinds = Array.from(viewer.querySelectorAll("[data-kind]"));
  const slider = document.getElementById("slider");
  const where = document.getElementById("where");
  const keys = document.getElementById("keys");
  const STEP = 1.25;

  /* What holds from case to case travels in the address: a page from disk has no store that every browser gives it. */
  const state = new URLSearchParams(location.hash.slice(1));
  let preset = Math.min(Math.max(Number(state.get("window")) || 0, 0), presets.length - 1);
  const off = new Set((state.get("off") || "").split(",").filter(Boolean)); // also kinds that this case lacks
  let size = Math.min(Math.max(Number(state.get("size")) || 0, -4), 8);
  const pane = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--pane"));

  sprites.forEach((sprite) => {
    sprite.style.backgroundImage = "url(" + JSON.stringify(sprite.dataset.sprite) + ")";
    sprite.style.backgroundSize = data.across * 100 + "% " + data.down * 100 + "%";
  });

  function share(index, count) {
    return (count > 1 ? (index / (count - 1)) * 100 : 0) + "%";
  }

  function show() {
    const index = Number(slider.value);
    const place = share(index % data.across, data.across) + " " + share(Math.floor(index / data.across), data.down);
    sprites.forEach((sprite) => (sprite.style.backgroundPosition = place));
    contours.forEach((path) => path.setAttribute("d", data.masks[path.dataset.mask][index]));
    const number = index + 1 + " of " + data.count;
    where.textContent = number;
    const height = document.createElement("span");
    height.className = "mm";
    height.textContent = " · " + ((data.first + index) * data.step).toFixed(0) + " mm";
    where.append(height);
    slider.setAttribute("aria-valuetext", "slice " + number);
  }

  function dress() {
    sprites.forEach((sprite) => {
      if (sprite.dataset.tone !== undefined) {
        sprite.style.filter = data.tones[Number(sprite.dataset.tone)][data.presets[preset]];
      }
    });
    presets.forEach((button, i) => button.setAttribute("aria-pressed", String(i === preset)));
    kinds.forEach((button) => {
      viewer.classList.toggle("no-" + button.dataset.kind, off.has(button.dataset.kind));
      button.setAttribute("aria-pressed", String(!off.has(button.dataset.kind)));
    });
    document.documentElement.style.setProperty("--pane", pane * Math.pow(STEP, size) + "px");
    remember();
  }

  function remember() {
    const hash = new URLSearchParams();
    if (preset) hash.set("window", preset);
    if (off.size) hash.set("off", Array.from(off).join(","));
    if (size) hash.set("size", size);
    const text = hash.toString();
    ["before", "after"].forEach((id) => {
      const link = document.getElementById(id);
      if (link) link.hash = text;
    });
  }

  function go(index) {
    slider.value = Math.min(Math.max(index, 0), data.count - 1);
    show();
  }

  function follow(id) {
    const link = document.getElementById(id);
    if (link) link.click();
  }

  slider.addEventListener("input", show);
  presets.forEach((button, i) =>
    button.addEventListener("click", () => {
      preset = i;
      dress();
    }),
  );
  kinds.forEach((button) =>
    button.addEventListener("click", () => {
      const kind = button.dataset.kind;
      if (!off.delete(kind)) off.add(kind);
      dress();
    }),
  );
  viewer.querySelectorAll("[data-size]").forEach((button) =>
    button.addEventListener("click", () => resize(Number(button.dataset.size))),
  );
  document.getElementById("help").addEventListener("click", () => keys.showModal());

  function resize(change) {
    size = Math.min(Math.max(size + change, -4), 8);
    dress();
  }

  const actions = {
    ArrowUp: () => go(Number(slider.value) + 1),
    ArrowRight: () => go(Number(slider.value) + 1),
    ArrowDown: () => go(Number(slider.value) - 1),
    ArrowLeft: () => go(Number(slider.value) - 1),
    PageUp: () => go(Number(slider.value) + 5),
    PageDown: () => go(Number(slider.value) - 5),
    Home: () => go(0),
    End: () => go(data.count - 1),
    c: () => {
      const hide = kinds.some((button) => !off.has(button.dataset.kind));
      data.kinds.forEach((kind) => (hide ? off.add(kind) : off.delete(kind)));
      dress();
    },
    n: () => follow("after"),
    p: () => follow("before"),
    "+": () => resize(1),
    "-": () => resize(-1),
    "?": () => keys.showModal(),
  };
  presets.forEach((_, i) => {
    actions[String(i + 1)] = () => {
      preset = i;
      dress();
    };
  });

  document.addEventListener("keydown", (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.altKey || event.metaKey || keys.open) return;
    event.preventDefault(); // also the slider's own answer to arrows, or they would count twice
    action();
  });

  slider.value = data.start; // browsers keep the value of an earlier visit
  show();
  dress();
})();
