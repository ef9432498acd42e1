"use strict";
const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));

// Colour scheme: system, light, dark. Storage may be forbidden for a file opened from disk.
function stored(value) {
  try {
    if (value !== undefined) localStorage.setItem("model-swarms-theme", value);
    return localStorage.getItem("model-swarms-theme");
  } catch (error) {
    return null;
  }
}
function setTheme(name) {
  const button = document.getElementById("theme");
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  button.textContent = name;
  button.setAttribute("aria-label", "colour scheme: " + name);
}
const schemes = ["system", "light", "dark"];
setTheme(schemes.includes(stored()) ? stored() : "system");
document.getElementById("theme").addEventListener("click", (event) => {
  const next = schemes[(schemes.indexOf(event.target.textContent) + 1) % schemes.length];
  setTheme(next);
  stored(next);
});

// Tables are sorted by a column's numbers if it has any, else by its texts; missing values stay last.
function keyOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
  return cell.textContent.trim().toLowerCase();
}
function sortBy(table, column, down) {
  const rows = Array.from(table.tBodies[0].rows);
  const numeric = rows.some((row) => row.cells[column].dataset.order !== undefined);
  rows.sort((a, b) => {
    const [x, y] = [keyOf(a, column), keyOf(b, column)];
    if (numeric && typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
    const order = x < y ? -1 : x > y ? 1 : 0;
    return down ? -order : order;
  });
  rows.forEach((row) => table.tBodies[0].append(row));
  all("thead th", table).forEach((th, k) => {
    if (k === column) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  });
}
all("table.sortable").forEach((table) => {
  all("thead th", table).forEach((th, column) => {
    th.querySelector("button").addEventListener("click", () => {
      const numeric = all("tbody tr", table).some((row) => row.cells[column].dataset.order !== undefined);
      const now = th.getAttribute("aria-sort");
      sortBy(table, column, now === null ? numeric : now === "ascending");
    });
  });
});

// Several runs: one is shown at a time; on paper all are.
const tabs = all(".tabs button");
function showRun(chosen) {
  tabs.forEach((tab) => {
    const shown = tab === chosen;
    tab.setAttribute("aria-pressed", String(shown));
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !shown;
  });
}
tabs.forEach((tab) => tab.addEventListener("click", () => showRun(tab)));
if (tabs.length) showRun(tabs[0]);

// Filters of the answers.
all(".answer-list").forEach((list) => {
  const buttons = all(".filters button", list);
  const search = list.querySelector("input");
  const status = list.querySelector(".status");
  const items = all(".item", list).map((element) => ({
    element,
    tags: element.dataset.tags.split(" "),
    text: element.textContent.toLowerCase(),
  }));
  function filter() {
    const tag = buttons.find((button) => button.getAttribute("aria-pressed") === "true").dataset.tag;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    items.forEach((item) => {
      const fits = (!tag || item.tags.includes(tag)) && words.every((word) => item.text.includes(word));
      item.element.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    status.textContent = shown === items.length ? "" : shown + " of " + items.length + " items";
  }
  buttons.forEach((button) => {
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      filter();
    });
  });
  search.addEventListener("input", filter);
});

// Keyboard: j and k move between the visible answers, / searches.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const visible = all(".item").filter((item) => item.offsetParent !== null);
  const at = visible.indexOf(document.activeElement);
  if ((event.key === "j" || event.key === "k") && visible.length) {
    const next = event.key === "j" ? Math.min(at + 1, visible.length - 1) : Math.max(at - 1, 0);
    visible[next].focus();
    visible[next].scrollIntoView({ block: "center" });
  } else if (event.key === "/") {
    const search = all(".filters input").find((input) => input.offsetParent !== null);
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

// Everything is open on paper.
window.addEventListener("beforeprint", () => {
  all("details").forEach((details) => { details.open = true; });
  all(".run, .item").forEach((element) => { element.hidden = false; });
});
