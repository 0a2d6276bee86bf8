// The page says everything without this; it adds tooltips, sorting, switches and a colour scheme.
// Who replaces a part of it says so by the event "replaced".
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  const tip = document.getElementById("tip");
  let tips = [];

  // Tooltips: the first line is a name.
  function hideTip() { tip.hidden = true; }
  function showTip(event) {
    const zone = event.target.closest ? event.target.closest("[data-t]") : null;
    if (!zone || zone.closest(".off")) { hideTip(); return; }
    const [head, ...lines] = tips[Number(zone.dataset.t)].split("\n");
    const strong = document.createElement("strong");
    strong.textContent = head;
    tip.replaceChildren(strong, ...lines.map((line) => {
      const row = document.createElement("span");
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const gap = 14, box = tip.getBoundingClientRect();
    let x = event.clientX + gap, y = event.clientY + gap;
    if (x + box.width > innerWidth - 8) x = Math.max(8, event.clientX - gap - box.width);
    if (y + box.height > innerHeight - 8) y = Math.max(8, event.clientY - gap - box.height);
    tip.style.left = `${x}px`;
    tip.style.top = `${y}px`;
  }
  function dressFigures() {
    hideTip();
    tips = JSON.parse(document.getElementById("tips").textContent);
    for (const figure of document.querySelectorAll("figure")) {
      figure.addEventListener("pointermove", showTip);
      figure.addEventListener("pointerdown", showTip);
      figure.addEventListener("pointerleave", hideTip);
    }
  }
  addEventListener("scroll", hideTip, { passive: true });

  // Switching policies: what is about one that is off hides in tables and fades in figures.
  const chips = [...document.querySelectorAll(".chip[data-policy]")];
  const marks = [...document.querySelectorAll("[data-p]")].map((element) => [
    element, element.dataset.p.split(" "),
  ]);
  const off = new Set();
  function apply() {
    for (const chip of chips) chip.setAttribute("aria-pressed", String(!off.has(chip.dataset.policy)));
    for (const [element, policies] of marks) {
      element.classList.toggle("off", policies.some((policy) => off.has(policy)));
    }
  }
  function focus(policy) {
    for (const [element, policies] of marks) {
      element.classList.toggle("dim", policy !== null && !policies.includes(policy));
    }
  }
  for (const chip of chips) {
    const own = chip.dataset.policy;
    chip.addEventListener("click", () => {
      if (!off.delete(own)) off.add(own);
      apply();
    });
    chip.addEventListener("dblclick", () => {
      const alone = chips.every((other) => off.has(other.dataset.policy) === (other !== chip));
      off.clear();
      if (!alone) for (const other of chips) if (other !== chip) off.add(other.dataset.policy);
      apply();
    });
    chip.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse" && !off.has(own)) focus(own);
    });
    chip.addEventListener("pointerleave", () => focus(null));
  }

  // Sorting: by the number that a cell begins with, or by its text.
  function key(cell) {
    const text = cell.textContent.trim().replace("−", "-").replace(/^[<>+]/, "");
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  }
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b);
  }
  function dressTables() {
    for (const table of document.querySelectorAll("table.sortable")) {
      const heads = [...table.tHead.rows[0].cells];
      heads.forEach((head, column) => {
        if (!head.textContent) return;
        const numeric = !head.className;
        const sort = () => {
          const sorted = head.getAttribute("aria-sort");
          const falling = sorted ? sorted === "ascending" : numeric;
          for (const other of heads) other.removeAttribute("aria-sort");
          head.setAttribute("aria-sort", falling ? "descending" : "ascending");
          const body = table.tBodies[0];
          const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
          rows.sort(([a], [b]) => (falling ? compare(b, a) : compare(a, b)));
          body.append(...rows.map(([, row]) => row));
        };
        head.tabIndex = 0;
        head.addEventListener("click", sort);
        head.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
        });
      });
    }
  }

  // Colour scheme: the reader's, light, dark. A browser may keep no storage for a local file.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  function setTheme(theme) {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  }
  let theme = "auto";
  try { theme = localStorage.getItem("report-theme") || "auto"; } catch { /* stays automatic */ }
  if (!themes.includes(theme)) theme = "auto";
  setTheme(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    setTheme(theme);
    try { localStorage.setItem("report-theme", theme); } catch { /* lasts as long as the page */ }
  });

  function dress() {
    dressFigures();
    dressTables();
  }
  dress();
  addEventListener("replaced", dress);

  // On paper nothing can be opened.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
