/* An image as a page holds it: levels, the planes that they are cut along, and what a level is in words. */
const ctpVolume = (function () {
  "use strict";

  /* Levels lie slice by slice from feet to head, each from the front to the back, from the patient's right to his left. */
  function planesOf([n, h, w], [dz, dy, dx], first) {
    return {
      axial: {
        count: n, width: w, height: h, mm: [w * dx, h * dy],
        at: (i, x, y) => (i * h + y) * w + x,
        told: (i) => ((first + i) * dz).toFixed(0) + " mm",
      },
      coronal: {
        count: h, width: w, height: n, mm: [w * dx, n * dz],
        at: (i, x, y) => ((n - 1 - y) * h + i) * w + x,
        told: (i) => (i * dy).toFixed(0) + " mm from the front",
      },
      sagittal: {
        count: w, width: h, height: n, mm: [h * dy, n * dz],
        at: (i, x, y) => ((n - 1 - y) * h + x) * w + i,
        told: (i) => (i * dx).toFixed(0) + " mm from the right",
      },
    };
  }

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function amount(pane, level) {
    return pane.signed ? ((level - 128) / 127) * pane.high : pane.low + (level / 255) * (pane.high - pane.low);
  }

  function inWords(value, decimals) {
    const text = value.toFixed(decimals);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
  }

  function levelInWords(pane, level) {
    if (level === 0) return "outside the brain";
    const words = inWords(amount(pane, level), pane.decimals);
    const unit = (pane.unit.startsWith("10") ? " × " : " ") + pane.unit;
    const beyond = level === 255 ? " or more" : level === 1 ? " or less" : "";
    return "about " + words + (pane.unit ? unit : "") + beyond;
  }

  return { planesOf, unpack, amount, inWords, levelInWords };
})();
