/* The list of cases: sorted by any column, by rank, and filtered by name. */
(function () {
  "use strict";
  const table = document.getElementById("list");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const headers = Array.from(table.querySelectorAll("thead th")).filter((h) => h.querySelector("button"));
  const ranking = document.getElementById("ranking");
  const orders = Array.from(document.querySelectorAll("[data-order]"));
  const collator = new Intl.Collator(undefined, { numeric: true });

  function number(row, column) {
    const text = row.cells[column].dataset.value;
    return text === "" ? NaN : Number(text);
  }

  /* Rows without a value come last, whichever way the others go. */
  function arrange(key, column) {
    const known = rows.filter((row) => !Number.isNaN(key(row)));
    const unknown = rows.filter((row) => Number.isNaN(key(row)));
    known.sort((a, b) => key(a) - key(b));
    body.append(...known, ...unknown);
    mark(column);
  }

  function mark(column, direction) {
    headers.forEach((h) => {
      const own = Number(h.querySelector("button").dataset.column) === column && direction;
      h.setAttribute("aria-sort", own ? direction : "none");
    });
  }

  function press(button) {
    orders.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
  }

  headers.forEach((header) => {
    const button = header.querySelector("button");
    const column = Number(button.dataset.column);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      const sign = down ? -1 : 1;
      if (column === 0) {
        rows.sort((a, b) => sign * collator.compare(a.cells[0].title, b.cells[0].title));
        body.append(...rows);
      } else {
        arrange((row) => sign * number(row, column), column);
      }
      mark(column, down ? "descending" : "ascending");
      press(null);
    });
  });

  function badness(row, column) {
    const value = number(row, column);
    const header = headers.find((h) => Number(h.querySelector("button").dataset.column) === column);
    return { higher: -value, lower: value, zero: Math.abs(value) }[header.dataset.better];
  }

  function rank(button) {
    const column = Number(ranking.value);
    const bad = (row) => badness(row, column);
    if (button.dataset.order === "worst") arrange((row) => -bad(row), column);
    if (button.dataset.order === "best") arrange(bad, column);
    if (button.dataset.order === "median") {
      const known = rows.filter((row) => !Number.isNaN(bad(row))).sort((a, b) => bad(a) - bad(b));
      const place = new Map(known.map((row, i) => [row, Math.abs(i - (known.length - 1) / 2)]));
      arrange((row) => (place.has(row) ? place.get(row) : NaN), column);
    }
    press(button);
  }

  orders.forEach((button) => button.addEventListener("click", () => rank(button)));
  ranking.addEventListener("change", () => {
    const pressed = orders.find((b) => b.getAttribute("aria-pressed") === "true");
    rank(pressed || orders[0]);
  });

  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  function sift() {
    const part = filter.value.trim().toLowerCase();
    rows.forEach((row) => {
      row.hidden = !row.cells[0].title.toLowerCase().includes(part);
    });
    shown.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length;
  }
  filter.addEventListener("input", sift);
  sift();
  if (ranking.options.length) {
    rank(orders[0]);
  } else {
    orders.concat(ranking).forEach((control) => (control.disabled = true));
  }

  /* The second line of headings sticks below the first. */
  const first = table.tHead.rows[0].cells[1];
  if (first) table.parentElement.style.setProperty("--first-row", first.offsetHeight + "px");
})();
