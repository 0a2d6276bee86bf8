// Keeps the page as the folder is: the server says that something changed, and the part that can
// change is asked for again. Without this script every link and form still works.
(() => {
  "use strict";
  const news = document.getElementById("news");
  let asking = false, again = false, waiting = false;

  function live() { return document.getElementById("live"); }
  function dot(state) {
    const mark = document.getElementById("connection");
    if (mark) { mark.dataset.state = state; mark.title = state; }
  }

  // What a reader is in the midst of must not be pulled away.
  function isBusy() {
    const held = document.activeElement;
    if (held && held.closest && held.closest("form, video")) return true;
    return [...document.querySelectorAll("video")].some((video) => !video.paused);
  }

  function offer() {
    waiting = true;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "New results: show them";
    button.addEventListener("click", () => { waiting = false; update(); });
    news.replaceChildren(button);
  }

  async function update() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Part": "live" }, cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const text = await answer.text();
      if (isBusy()) { offer(); return; }
      replace(text);
      news.textContent = "";
      dot("live");
    } catch {
      dot("lost");
    } finally {
      asking = false;
      if (again) { again = false; setTimeout(changed, 500); }
    }
  }

  function replace(text) {
    const parsed = new DOMParser().parseFromString(text, "text/html").getElementById("live");
    const old = live();
    if (!parsed || !old) return;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((each) => each.id));
    for (const details of parsed.querySelectorAll("details[id]")) details.open = open.has(details.id);
    const held = document.activeElement;
    const address = held && old.contains(held) ? held.getAttribute("href") || held.id : null;
    const across = new Map([...old.querySelectorAll("nav.views, .wide")].map((e, n) => [n, e.scrollLeft]));
    const place = scrollY;
    old.replaceWith(parsed);
    [...parsed.querySelectorAll("nav.views, .wide")].forEach((e, n) => { e.scrollLeft = across.get(n) || 0; });
    scrollTo(0, place);
    if (address) {
      const same = [...parsed.querySelectorAll("a[href], [id]")].find(
        (each) => each.getAttribute("href") === address || each.id === address);
      if (same) same.focus({ preventScroll: true });
    }
    dress();
    dispatchEvent(new Event("replaced"));
  }

  function changed() {
    if (isBusy()) offer(); else update();
  }

  function dress() {
    // A choice shows at once; the button stays for those who browse without a script.
    for (const form of document.querySelectorAll("form.chooser")) {
      form.addEventListener("change", () => form.requestSubmit());
      const button = form.querySelector("button");
      if (button) button.hidden = true;
    }
    for (const button of document.querySelectorAll("button.both")) {
      const films = [...button.closest("li").querySelectorAll("video")];
      button.addEventListener("click", () => {
        const stop = films.some((film) => !film.paused);
        for (const film of films) {
          if (stop) { film.pause(); continue; }
          film.currentTime = 0;
          film.play();
        }
        button.textContent = stop ? "Play both" : "Pause both";
      });
    }
    const print = document.getElementById("print");
    if (print) print.addEventListener("click", () => window.print());
    const current = document.querySelector("nav.views [aria-current]");
    if (current && current.scrollIntoView) current.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  dress();

  // An empty field needs no place in the address.
  document.addEventListener("submit", (event) => {
    for (const field of event.target.elements) {
      if (field.name && field.value === "") field.disabled = true;
    }
  });

  const events = new EventSource("/events");
  events.addEventListener("open", () => dot("live"));
  events.addEventListener("error", () => dot("lost"));
  events.addEventListener("state", (event) => {
    const [version, done] = event.data.split(" ");
    const part = live();
    if (!part) return;
    const isPending = part.dataset.pending === "1" && done !== part.dataset.done;
    part.dataset.done = done;
    if (version !== part.dataset.version || isPending) changed();
  });
  addEventListener("pagehide", () => events.close());
  document.addEventListener("focusout", () => { if (waiting) setTimeout(() => { if (!isBusy()) { waiting = false; update(); } }, 0); });
})();
