// The page says everything without this; it adds values under the pointer, switches and a colour scheme.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  const { names, panels } = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const off = new Set();
  const svgSpace = "http://www.w3.org/2000/svg";

  // Values: those nearest to the pointer's place along the axis.
  function nearest(numbers, wanted) {
    let low = 0, high = numbers.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (numbers[middle] < wanted) low = middle; else high = middle;
    }
    return Math.abs(numbers[low] - wanted) <= Math.abs(numbers[high] - wanted) ? low : high;
  }
  function told(value) {
    const size = Math.abs(value);
    return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  }
  function element(name, attributes) {
    const made = document.createElementNS(svgSpace, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }
  function row(...texts) {
    const line = document.createElement("div");
    for (const [text, colour] of texts) {
      const span = document.createElement("span");
      if (colour) {
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.setProperty("--colour", colour);
        span.append(swatch);
      }
      span.append(text);
      line.append(span);
    }
    return line;
  }
  function colourOf(run) { return run === null ? "var(--ink)" : `var(--series-${run % 12})`; }

  for (const figure of document.querySelectorAll("figure")) {
    const panel = panels[Number(figure.dataset.panel)];
    const svg = figure.querySelector("svg");
    const overlay = element("g", { "pointer-events": "none" });
    svg.append(overlay);
    const [left, right, top, bottom] = panel.frame;
    const height = (value) => {
      const [low, high] = panel.log ? panel.y.map(Math.log) : panel.y;
      return bottom - ((panel.log ? Math.log(value) : value) - low) / (high - low) * (bottom - top);
    };
    const clear = () => { overlay.replaceChildren(); tip.hidden = true; };
    const show = (event) => {
      const box = svg.getBoundingClientRect();
      const place = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      if (place < left - 4 || place > right + 4) { clear(); return; }
      const [low, high] = panel.x;
      const wanted = low + (place - left) / (right - left) * (high - low);
      // Of each run the nearest point: a run may have several curves here.
      const nearby = new Map();
      for (const curve of panel.curves) {
        if (off.has(String(curve.run)) || !curve.x.length) continue;
        const ends = [curve.x[0], curve.x[curve.x.length - 1]];
        // A curve says nothing about where it is not; a few pixels are let pass.
        const slack = (high - low) * 0.03;
        if (wanted < ends[0] - slack || wanted > ends[1] + slack) continue;
        const index = nearest(curve.x, wanted);
        const before = nearby.get(curve.run);
        if (before && Math.abs(before[1] - wanted) <= Math.abs(curve.x[index] - wanted)) continue;
        nearby.set(curve.run, [curve.run, curve.x[index], curve.y[index]]);
      }
      const found = [...nearby.values()];
      clear();
      if (!found.length) return;
      const at = found.reduce((a, b) => Math.abs(b[1] - wanted) < Math.abs(a[1] - wanted) ? b : a)[1];
      const x = left + (at - low) / (high - low) * (right - left);
      overlay.append(element("line", { class: "cursor", x1: x, x2: x, y1: top, y2: bottom }));
      const lines = [row([panel.xUnit ? `${told(at)}${panel.xUnit}` : `step ${Math.round(at).toLocaleString("en")}`], [panel.unit])];
      for (const [run, x0, y0] of found) {
        overlay.append(element("circle", {
          class: "at", r: 3.2, cx: left + (x0 - low) / (high - low) * (right - left), cy: height(y0), fill: colourOf(run),
        }));
        lines.push(row([run === null ? "teacher" : names[run], colourOf(run)], [told(y0)]));
      }
      tip.replaceChildren(...lines);
      tip.hidden = false;
      const gap = 16, size = tip.getBoundingClientRect();
      let tipX = event.clientX + gap, tipY = event.clientY + gap;
      if (tipX + size.width > innerWidth - 8) tipX = Math.max(8, event.clientX - gap - size.width);
      if (tipY + size.height > innerHeight - 8) tipY = Math.max(8, event.clientY - gap - size.height);
      tip.style.left = `${tipX}px`;
      tip.style.top = `${tipY}px`;
    };
    figure.addEventListener("pointermove", show);
    figure.addEventListener("pointerdown", show);
    figure.addEventListener("pointerleave", clear);
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Switching runs: what is about one that is off is hidden.
  const chips = [...document.querySelectorAll(".chip[data-run]")];
  const marks = [...document.querySelectorAll("svg [data-series]")];
  const rows = [...document.querySelectorAll("tr[data-row]")];
  function apply() {
    for (const chip of chips) chip.setAttribute("aria-pressed", String(!off.has(chip.dataset.run)));
    for (const mark of marks) mark.classList.toggle("off", off.has(mark.dataset.series));
    for (const line of rows) line.classList.toggle("off", off.has(line.dataset.row));
  }
  function focus(run) {
    for (const mark of marks) mark.classList.toggle("dim", run !== null && mark.dataset.series !== run);
  }
  for (const chip of chips) {
    const own = chip.dataset.run;
    chip.addEventListener("click", () => { if (!off.delete(own)) off.add(own); apply(); });
    chip.addEventListener("dblclick", () => {
      const alone = chips.every((other) => off.has(other.dataset.run) === (other !== chip));
      off.clear();
      if (!alone) for (const other of chips) if (other !== chip) off.add(other.dataset.run);
      apply();
    });
    chip.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse" && !off.has(own)) focus(own);
    });
    chip.addEventListener("pointerleave", () => focus(null));
  }

  // Colour scheme: the reader's, light, dark. A browser may keep no storage for a local file.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  button.hidden = false;
  function setTheme(theme) {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  }
  let theme = "auto";
  try { theme = localStorage.getItem("plot-theme") || "auto"; } catch { /* stays automatic */ }
  if (!themes.includes(theme)) theme = "auto";
  setTheme(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    setTheme(theme);
    try { localStorage.setItem("plot-theme", theme); } catch { /* lasts as long as the page */ }
  });
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
